"""A plan's cluster: made once when it isn't there, adopted when it fits, refused when it doesn't."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft.azureml.computes import ensure_compute
from azft.azureml.errors import ConflictError, LimitError
from azft.errors import NotFoundError, UsageError
from azft.payloads.wire import wire
from azft.plan import Plan
from azft.tags import TAG
from tests.helpers.azure_runs import SIZE, Azure, emulated


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with emulated(tmp_path, monkeypatch, provision_seconds=120.0) as found:
        yield found


def plan(azure: Azure, *more: str, size: str | None = SIZE) -> Plan:
    sized = (f"modes.maap.vm_size={size}",) if size else ("modes.maap.gpus_per_node=1",)
    return azure.plan("maap", "modes.maap.compute=gpu", *sized, *more)


def made(azure: Azure, name: str = "gpu", **settings: Any) -> None:
    """A cluster that somebody else made."""
    from azure.ai.ml.entities import AmlCompute

    given = {"size": SIZE, "max_instances": 2, "tier": "dedicated", "location": "eastus2", **settings}
    azure.resources.put("compute", name, body=wire(AmlCompute(name=name, **given)._to_rest_object()))
    azure.emu.clock.advance(600)


def test_it_is_made_small_tagged_and_waited_for(azure: Azure) -> None:
    events: list[dict[str, Any]] = []
    wanted = plan(
        azure, "modes.maap.nodes=2", "modes.maap.max_nodes=4", "modes.maap.idle_seconds=300",
        "modes.maap.tier=low-priority", "distribution.strategy=ddp",
    )  # fmt: skip
    cluster = ensure_compute(azure.connection, wanted, on_event=events.append)
    assert cluster is not None
    assert (cluster.made, cluster.ours, cluster.state) == (True, True, "Succeeded")
    assert (cluster.min_nodes, cluster.max_nodes, cluster.tier, cluster.vm_size) == (0, 4, "low-priority", SIZE)
    found = azure.resources.get("compute", "gpu")
    assert found is not None
    assert found.tags[TAG] == wanted.hash
    assert found.tags["azft.run"] == wanted.run_name
    assert found.properties["properties"]["scaleSettings"]["nodeIdleTimeBeforeScaleDown"] == "PT5M"
    assert [event["state"] for event in events if event["event"] == "state"] == ["Creating", "Succeeded"]


def test_the_longest_name_is_taken(azure: Azure) -> None:
    """The plan, azft and the emulator have one rule."""
    name = "gpu-cluster-of-the-language-team"
    wanted = plan(azure, f"modes.maap.compute={name}")
    assert (len(name), wanted.has_errors) == (32, False)
    cluster = ensure_compute(azure.connection, wanted)
    assert cluster is not None
    assert cluster.name == name


def test_one_that_fits_is_used_as_it_is(azure: Azure) -> None:
    made(azure)
    before = azure.requests("PUT", "/computes/")
    cluster = ensure_compute(azure.connection, plan(azure))
    assert cluster is not None
    assert (cluster.made, cluster.ours) == (False, False)
    assert azure.requests("PUT", "/computes/") == before


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        ({"size": "Standard_NC48ads_A100_v4"}, (), "has Standard_NC48ads_A100_v4 nodes; the plan is for"),
        (
            {"max_instances": 1},
            ("modes.maap.nodes=2", "distribution.strategy=ddp"),
            "at most 1 nodes; the plan needs",
        ),
        ({"tier": "low_priority"}, (), "is low-priority; the plan is for dedicated"),
    ],
)
def test_one_that_does_not_fit_is_refused(azure: Azure, settings: Any, more: tuple[str, ...], words: str) -> None:
    made(azure, **settings)
    with pytest.raises(ConflictError, match=words):
        ensure_compute(azure.connection, plan(azure, *more))


def test_fewer_gpus_than_ranks_are_refused(azure: Azure) -> None:
    made(azure, size="Standard_DS3_v2")
    with pytest.raises(ConflictError, match="has 0 GPUs; the plan starts 1 ranks"):
        ensure_compute(azure.connection, plan(azure, size=None))


def test_it_is_not_made_unless_that_is_asked_for(azure: Azure) -> None:
    with pytest.raises(NotFoundError, match="has no compute cluster gpu") as caught:
        ensure_compute(azure.connection, plan(azure), create=False)
    assert "--create-compute" in caught.value.fix
    assert azure.resources.all("compute") == []
    assert ensure_compute(azure.connection, azure.plan("maap", f"modes.maap.instance_types=[{SIZE}]")) is None


def test_without_a_size_there_is_nothing_to_make(azure: Azure) -> None:
    with pytest.raises(UsageError, match="does not say of what size"):
        ensure_compute(azure.connection, plan(azure, size=None))


def test_a_quota_that_never_allows_it_is_a_limit(azure: Azure) -> None:
    azure.emu.settings = azure.emu.settings.changed({"quota": {"StandardNCADSA100v4Family": 23}})
    with pytest.raises(LimitError, match="never allows 1 x"):
        ensure_compute(azure.connection, plan(azure))
    assert azure.resources.all("compute") == []


def test_the_services_own_refusal_is_a_limit_too(azure: Azure) -> None:
    wanted = plan(azure)
    azure.emu.faults.add("quota-exhausted")
    with pytest.raises(LimitError):
        ensure_compute(azure.connection, wanted)


@pytest.mark.parametrize("fault", ["answer-lost", "connection-reset", "throttled", "server-error", "not-visible-yet"])
def test_an_unclear_answer_leads_to_one_cluster(azure: Azure, fault: str) -> None:
    azure.emu.faults.add(fault, method="PUT", path="/computes/", times=2)
    cluster = ensure_compute(azure.connection, plan(azure))
    assert cluster is not None
    assert cluster.state == "Succeeded"
    assert [found.name for found in azure.resources.all("compute")] == ["gpu"]
