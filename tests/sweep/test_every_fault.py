from __future__ import annotations

from collections.abc import Iterable

import pytest

from azft.emulator.faults import NAMES
from tests.sweep import invariants
from tests.sweep.flows import FLOWS
from tests.sweep.sweep import KINDS, Kind, Sweep

MOST = 12
"""Cases of a flow in the fast tier, where nothing is made."""


def live_all(sweep: Sweep, flow: str, cases: Iterable[tuple[int, Kind]]) -> int:
    """Live each case; every one that goes wrong is told, not only the first."""
    wrong, count = [], 0
    for number, kind in cases:
        count += 1
        try:
            sweep.live(flow, number, kind)
        except Exception as error:
            request = sweep.requests(flow)[number]
            wrong.append(f"{kind.name} at request {number}, {request.method} {request.path}: {error!r:.600}")
    assert not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong)
    return count


@pytest.mark.parametrize("flow", FLOWS)
def test_a_fault_doubles_nothing_loses_nothing_and_is_told(sweep: Sweep, flow: str) -> None:
    assert live_all(sweep, flow, sweep.sample(flow, MOST)) > 4


@pytest.mark.slow
@pytest.mark.parametrize("flow", FLOWS)
def test_every_fault_at_every_request(sweep: Sweep, flow: str) -> None:
    assert live_all(sweep, flow, sweep.cases(flow)) > 10 * len(sweep.requests(flow))


def test_the_sweep_knows_every_fault_of_the_emulator() -> None:
    assert {name for kind in KINDS.values() for name, _ in kind.faults} == set(NAMES)


def test_every_kind_of_fault_finds_a_request(sweep: Sweep) -> None:
    found = {kind.name for flow in ("submit maas", "deploy serverless") for _, kind in sweep.cases(flow)}
    assert found == set(KINDS)


def test_a_second_job_and_a_half_asset_would_be_seen(sweep: Sweep) -> None:
    with sweep.world(sweep.done("submit maas")) as world:
        whole = sweep.whole("submit maas")
        invariants.check(world, whole)
        file = next((world.emu.state.root / "blobs").rglob("train.jsonl"))
        before = file.read_bytes()
        file.write_bytes(before[:-9])
        with pytest.raises(AssertionError):
            invariants.nothing_half(world, whole)
        file.write_bytes(before)
        plan = world.template.plans["maas"]
        document = world.emu.state.get("job", plan.run_name)
        assert document is not None
        world.emu.state.put("job", "another", document)
        world.created += [f"job {plan.run_name}", "job another"]
        with pytest.raises(AssertionError, match="were started"):
            invariants.nothing_twice(world)
