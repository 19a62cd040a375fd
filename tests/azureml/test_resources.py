"""The workspace's resources: asked for as the SDK asks, listed to the last page, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft.azureml import remote_runs, submission
from azft.azureml.errors import ConflictError, ServiceUnavailableError
from azft.azureml.quota import Quota, Size, read_quota
from azft.azureml.resources import KINDS, Accepted, Resource, settled
from azft.emulator import jobs
from azft.payloads.wire import wire
from tests.helpers.azure_runs import Azure, emulated


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with emulated(tmp_path, monkeypatch) as found:
        yield found


def test_the_api_versions_are_the_sdks_own(azure: Azure) -> None:
    client = azure.connection.client
    spoken = {
        "job": client.jobs.service_client_01_2024_preview_arm,
        "serverless": client.serverless_endpoints._service_client,
        "marketplace": client.marketplace_subscriptions._service_client,
        "online": client.online_endpoints._online_operation,
        "deployment": client.online_deployments._online_deployment,
        "compute": client.compute._operation,
        "model": client.models._model_versions_operation,
        "environment": client.environments._version_operations,
        "data": client.data._operation,
        "code": client._code._version_operation,
    }
    assert {kind: operations._config.api_version for kind, operations in spoken.items()} == {
        kind: version for kind, (_, version, _) in KINDS.items()
    }


def test_a_list_goes_to_its_last_page(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PAGE", 2)
    for number in range(5):
        azure.running("pipeline", f"linden-0000000{number}")
    assert len(azure.resources.all("job", tag="azft.plan")) == 5


def test_what_is_not_there_is_none_and_a_wrong_workspace_is_an_error(azure: Azure) -> None:
    assert azure.resources.get("serverless", "nothing") is None
    azure.resources.delete("serverless", "nothing")
    azure.emu.settings = azure.emu.settings.changed({"workspace": "another"})
    with pytest.raises(Exception, match="does not find it"):
        azure.resources.all("serverless")


def test_names_are_words() -> None:
    assert Resource("model", ("linden", "3")).words == "model linden:3"
    assert Resource("deployment", ("endpoint", "azft")).words == "deployment azft"


def test_a_jobs_own_marks_stand_where_somebody_edited_its_tags() -> None:
    noted = {"azft.plan": "aaaa", "azft.run": "toy-aaaa"}
    job = Resource(
        "job", ("toy-aaaa",), tags={"azft.plan": "edited", "team": "search"}, properties={"properties": noted}
    )
    assert job.marks == {"azft.plan": "aaaa", "azft.run": "toy-aaaa", "team": "search"}
    submission._require_ours(job, "aaaa")
    assert remote_runs._remote("toy-aaaa", job).plan == "aaaa"
    assert Resource("online", ("e",), tags={"a": "b"}, properties={"properties": noted}).marks == {"a": "b"}


class Shelf:
    """Resources with answers as they are told: an error is raised, anything else is what there is."""

    def __init__(self, looks: list[Resource | None], sends: list[Resource | Exception]) -> None:
        self.looks, self.sends, self.sent = looks, sends, 0

    def get(self, kind: str, *names: str) -> Resource | None:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    def put(self, kind: str, *names: str, body: Any) -> Accepted:
        self.sent += 1
        answer = self.sends.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Accepted(answer)


OURS = Resource("compute", ("c",), tags={"mine": "yes"}, properties={"provisioningState": "Succeeded"})
THEIRS = Resource("compute", ("c",))
LOST = ServiceUnavailableError("lost")


def have(shelf: Shelf, **more: Any) -> tuple[Accepted, bool]:
    return settled(shelf, "compute", "c", body={}, is_ours=lambda found: "mine" in found.tags, **more)  # type: ignore[arg-type]


def test_ours_is_adopted_and_anothers_refused() -> None:
    shelf = Shelf([OURS], [])
    assert have(shelf) == (Accepted(OURS), False)
    with pytest.raises(ConflictError):
        have(Shelf([THEIRS], []))
    assert shelf.sent == 0


def test_a_lost_answer_is_settled_by_looking_and_not_by_sending(azure: Azure) -> None:
    shelf = Shelf([None, None, OURS], [LOST])
    assert have(shelf) == (Accepted(OURS), True)
    assert shelf.sent == 1


def test_only_when_there_is_nothing_to_see_is_it_sent_again(azure: Azure) -> None:
    shelf = Shelf([None], [LOST, OURS])
    assert have(shelf) == (Accepted(OURS), True)
    assert shelf.sent == 2
    shelf = Shelf([None], [LOST, LOST, LOST, OURS])
    with pytest.raises(ServiceUnavailableError):
        have(shelf)
    assert shelf.sent == 3, "it gives up"


def test_somebody_elses_that_came_in_between_is_refused(azure: Azure) -> None:
    with pytest.raises(ConflictError, match="did not make it"):
        have(Shelf([None, THEIRS], [LOST]))


def test_one_of_ours_that_failed_is_sent_once_more() -> None:
    failed = Resource("compute", ("c",), tags={"mine": "yes"}, properties={"provisioningState": "Failed"})
    shelf = Shelf([failed], [OURS])
    assert have(shelf, again=lambda found: found.state == "Failed") == (Accepted(OURS), True)


@pytest.mark.parametrize(
    ("family", "value", "localized", "fits"),
    [
        ("StandardNCADSA100v4Family", "StandardNCADSA100v4Family", "", True),
        ("standardNCADSA100v4Family", "", "Standard NCADSA100v4 Family Cluster Dedicated vCPUs", True),
        ("Standard NDASv4_A100 Family", "standardNDASv4A100Family", "", True),
        ("StandardNCADSA100v4Family", "standardNCADSH100v5Family", "", False),
    ],
)
def test_a_familys_quota_is_found_however_it_is_spelled(family: str, value: str, localized: str, fits: bool) -> None:
    class Told:
        def usages(self, location: str) -> list[dict[str, Any]]:
            of_a_workspace = {"id": "/x/workspaces/w/usages", "name": {"value": value}, "currentValue": 9, "limit": -1}
            whole = {"name": {"value": value, "localizedValue": localized}, "currentValue": 8, "limit": 48}
            return [of_a_workspace, whole]

    found = read_quota(Told(), "eastus2", Size("s", family, 24, 1, 220), 2)  # type: ignore[arg-type]
    assert (found.used, found.limit) == ((8, 48) if fits else (None, None))
    assert found.short is fits


def test_no_limit_is_no_shortage() -> None:
    assert not Quota("f", 24, 0, None).short
    assert Quota("f", 24, 30, 48).short
    assert "names no limit" in Quota("f", 24, 0, None).words


def test_bodies_are_the_sdks(azure: Azure) -> None:
    from azft.azureml import serving_bodies as bodies

    body = bodies.vllm_deployment(
        "e", location="eastus2", model="/m", environment="/env", model_name="linden", gpus=0,
        instance_type="S", instances=2, tags={"a": "b"},
    )  # fmt: skip
    assert body["sku"] == {"name": "Default", "capacity": 2}
    assert body["properties"]["endpointComputeType"] == "Managed"
    assert body["properties"]["environmentVariables"]["AZFT_GPUS"] == "1"
    assert body["properties"]["requestSettings"]["requestTimeout"] == "PT3M"
    assert bodies.serverless_endpoint(model_asset="azureml://x", location="eastus2", tags={"a": "b"}) == {
        "location": "eastus2",
        "properties": {"modelSettings": {"modelId": "azureml://x"}},
        "sku": {"name": "Consumption"},
        "tags": {"a": "b"},
    }
    assert wire({"a": 1}) == {"a": 1}
