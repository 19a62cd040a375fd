from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pytest

from azft.azureml import submission, watching
from azft.emulator import Fault
from azft.errors import AzftError
from azft.runs import RunState
from tests.sweep.flows import FLOWS
from tests.sweep.schedules import Schedule, as_processes
from tests.sweep.sweep import Sweep

FAST = 300
SLOW = 10_000
PARTS = 6
"""Of the fast tier, so that two workers share it."""


@pytest.fixture(autouse=True)
def processes(sweep: Sweep) -> Iterator[None]:
    with as_processes():
        yield


def live_all(sweep: Sweep, seeds: Iterable[int]) -> Counter[str]:
    """Live the histories; every one that goes wrong is told with its seed."""
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    for seed in seeds:
        schedule = Schedule(seed, sweep)
        try:
            schedule.run()
        except Exception as error:
            wrong.append(f"{error!r:.600}\n{schedule.history}")
        counts += schedule.counts
    assert not wrong, f"{len(wrong)} histories:\n" + "\n\n".join(wrong[:3])
    return counts


@pytest.mark.parametrize("part", range(PARTS))
def test_two_clients_killed_and_faulted_start_one_job(sweep: Sweep, part: int) -> None:
    counts = live_all(sweep, range(part, FAST, PARTS))
    assert counts["kills"] > 10
    assert counts["faults"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_ten_thousand_schedules(sweep: Sweep, part: int) -> None:
    live_all(sweep, range(FAST + part, FAST + SLOW, 20))


def test_a_seed_is_a_whole_history(sweep: Sweep) -> None:
    first, again = (Schedule(3, sweep).run() for _ in range(2))
    assert first.events == again.events
    assert len(first.events) > 20


def test_what_is_known_of_a_run_is_not_enough_to_resume_it(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record says that it runs, while another process has just begun to read that it was canceled."""
    monkeypatch.setattr(watching, "_PATIENCE", 0.0)
    flow = FLOWS["resume"]
    with sweep.world(sweep.ready(flow.name)) as world:
        client = world.client()
        run = client.run(flow.plan)
        assert run.recorded_status().state is RunState.RUNNING
        with run.hold(), pytest.raises(AzftError, match="so how it stands is not known"):
            flow.act(client)
        assert len(world.jobs()) == 1
        flow.says(client, flow.act(client))
        assert len(world.jobs()) == 2


def test_a_client_that_sends_again_under_another_name_is_caught(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """What azft would be without its rule: the schedules see it."""
    put = submission._put

    def careless(connection: object, name: str, body: dict[str, object]) -> object:
        numbers = Counter[str]()
        while True:
            try:
                return put(connection, name + "-x" * numbers["sent"], body)  # type: ignore[arg-type]
            except Exception:
                numbers["sent"] += 1
                if numbers["sent"] > 3:
                    raise

    monkeypatch.setattr(submission, "_put", careless)
    wrong = 0
    for seed in range(40):
        if wrong == 3:
            return
        schedule = Schedule(seed, sweep)
        if schedule.flow.name.startswith("submit"):
            schedule.extra = [Fault("answer-lost", method="PUT", path="/jobs/")]
            try:
                schedule.run()
            except AssertionError:
                wrong += 1
    raise AssertionError(f"only {wrong} histories showed it")
