"""Everything that azft started is listed from the workspace's tags and ended; nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft.azureml.connection import Access
from azft.azureml.deployment import deploy
from azft.azureml.ending import LIMIT, end, exit_code
from azft.azureml.endpoint_records import EndpointRecord, recorded, remember
from azft.azureml.errors import ServiceUnavailableError
from azft.azureml.inventory import read_inventory
from azft.azureml.patience import clock
from azft.azureml.teardown import Whole, end_all, look, select
from azft.emulator.faults import ALWAYS
from azft.errors import ExitCode, NotFoundError, UsageError
from azft.payloads.wire import wire
from azft.tags import TAG
from tests.helpers.azure_runs import SIZE, Azure, emulated


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with emulated(tmp_path, monkeypatch, provision_seconds=120.0) as found:
        yield found


BOUGHT = "azureml://registries/azureml-meta/models/Meta-Llama-3.1-8B-Instruct/labels/latest"


def everything(azure: Azure) -> None:
    """One of each: a running job, both kinds of endpoint, a cluster, a subscription; and a stranger's of each."""
    deploy(azure.connection, azure.completed("pipeline", "linden-0000bbbb"), instance_type=SIZE)
    bought = azure.completed("serverless-finetuning", "linden-0000cccc", mode="maas", marketplace=True, model_id=BOUGHT)
    deploy(azure.connection, bought)
    cluster(azure, "gpu", {TAG: "a" * 64, "azft.run": "linden-0000aaaa"})
    azure.emu.settings = azure.emu.settings.changed({"run_seconds": 1e6})
    azure.running("pipeline", "linden-0000aaaa")
    strangers(azure)


def cluster(azure: Azure, name: str, tags: dict[str, str]) -> None:
    from azure.ai.ml.entities import AmlCompute

    made = AmlCompute(name=name, size=SIZE, location="eastus2", max_instances=1, tags=tags)
    azure.resources.put("compute", name, body=wire(made._to_rest_object()))


def strangers(azure: Azure) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint, MarketplaceSubscription, ServerlessEndpoint

    serverless = ServerlessEndpoint(
        name="theirs", model_id="azureml://registries/azureml/models/Phi-4-mini-instruct", tags={"a": "b"}
    )
    online = ManagedOnlineEndpoint(name="theirs-too", auth_mode="key", tags={"team": "x"})
    subscription = MarketplaceSubscription(name="theirs", model_id="azureml://registries/azureml-mistral/models/M")
    azure.resources.put("serverless", "theirs", body=wire(serverless._to_rest_object()))
    azure.resources.put("online", "theirs-too", body=wire(online._to_rest_online_endpoint("eastus2")))
    cluster(azure, "shared", {})
    azure.resources.put("marketplace", "theirs", body=wire(subscription._to_rest_object()))
    details = {"taskType": "ChatCompletion", "model": {"uri": "x"}, "trainingData": {"uri": "y"}}
    body = {"properties": {"jobType": "FineTuning", "fineTuningDetails": details, "tags": {}}}
    azure.resources.put("job", "their-job", body=body)


def there(azure: Azure) -> set[tuple[str, str]]:
    kinds = ("serverless", "online", "compute", "marketplace")
    found = {(kind, resource.name) for kind in kinds for resource in azure.resources.all(kind)}
    return found | {("job", job.name) for job in azure.resources.all("job") if job.state in {"Running", "Queued"}}


STRANGERS = {
    ("serverless", "theirs"),
    ("online", "theirs-too"),
    ("compute", "shared"),
    ("marketplace", "theirs"),
    ("job", "their-job"),
}


def test_everything_that_azft_started_is_listed_with_what_bills(azure: Azure) -> None:
    everything(azure)
    items = {item.kind: item for item in read_inventory(azure.connection).items}
    assert set(items) == {"job", "serverless", "online", "compute", "marketplace"}
    assert {kind: item.bills for kind, item in items.items()} == {
        "job": True, "serverless": True, "online": True, "compute": False, "marketplace": False,
    }  # fmt: skip
    assert items["online"].detail == f"model linden:0000bbbb, 1 x {SIZE}"
    assert items["compute"].detail == f"0 of at most 1 x {SIZE} up"
    assert items["online"].run == "linden-0000bbbb"
    assert not any(name.startswith("their") for _, name in {(item.kind, item.name) for item in items.values()})


def test_all_of_it_ends_and_nothing_else(azure: Azure) -> None:
    everything(azure)
    outcomes = end_all(Access(), look(Access()).items)
    assert [(outcome.item.kind, outcome.why) for outcome in outcomes if not outcome.ended] == []
    assert there(azure) == STRANGERS
    assert recorded(azure.root) == []
    assert look(Access()).items == ()
    assert end_all(Access(), look(Access()).items) == []


def test_a_run_ends_alone(azure: Azure) -> None:
    everything(azure)
    before = there(azure)
    outcomes = end_all(Access(), select(look(Access()), "linden-0000bbbb"))
    assert [outcome.item.kind for outcome in outcomes] == ["online"]
    gone = before - there(azure)
    assert {kind for kind, _ in gone} == {"online"}


def test_a_runs_subscription_stays_because_it_belongs_to_the_model(azure: Azure) -> None:
    everything(azure)
    kinds = [item.kind for item in select(look(Access()), "linden-0000cccc")]
    assert kinds == ["serverless"]


def test_names_mean_runs_beginnings_of_runs_and_things(azure: Azure) -> None:
    everything(azure)
    whole = look(Access())
    endpoint = next(item.name for item in whole.items if item.kind == "online")
    assert [item.name for item in select(whole, endpoint)] == [endpoint]
    assert [item.name for item in select(whole, "linden-0000b")] == [endpoint]
    assert [item.kind for item in select(whole, "gpu")] == ["compute"]
    with pytest.raises(NotFoundError, match="Several runs start with"):
        select(whole, "linden-0000")
    with pytest.raises(NotFoundError, match="knows no run and no endpoint `other`"):
        select(whole, "other")


def test_a_run_that_is_down_already_is_no_error(azure: Azure) -> None:
    run = azure.completed("pipeline")
    assert select(look(Access()), run.name) == []
    assert select(Whole(("w",), (), frozenset({"elsewhere-0000dddd"})), "elsewhere-0000dddd") == []


def test_one_that_will_not_end_stops_no_other_and_is_reported(azure: Azure) -> None:
    everything(azure)
    azure.emu.faults.add("server-error", method="DELETE", path="/onlineEndpoints/", times=-1)
    outcomes = end_all(Access(), look(Access()).items)
    left = [outcome for outcome in outcomes if not outcome.ended]
    assert [outcome.item.kind for outcome in left] == ["online"]
    assert "Deleting the online endpoint" in left[0].why
    assert {kind for kind, _ in there(azure) - STRANGERS} == {"online"}
    assert [record.kind for record in recorded(azure.root)] == ["vllm"], "it is still there, so its record stays"


def test_one_that_takes_too_long_is_reported(azure: Azure) -> None:
    deploy(azure.connection, azure.completed("pipeline"), instance_type=SIZE)
    azure.emu.settings = azure.emu.settings.changed({"provision_seconds": 10_000})
    (item,) = read_inventory(azure.connection).items
    (outcome,) = end(azure.connection, [item], limit=60)
    assert not outcome.ended
    assert "still there after 1 min: Deleting" in outcome.why


@pytest.mark.parametrize("method", ["DELETE", "GET"])
def test_a_sign_in_that_ends_on_the_way_is_told_at_once_and_as_that(azure: Azure, method: str) -> None:
    everything(azure)
    items = look(Access()).items
    azure.emu.faults.add("token-expired", method=method, path="/onlineEndpoints/", after=method == "GET", times=ALWAYS)
    began = clock().now()
    outcomes = end_all(Access(), items)
    assert clock().now() - began < LIMIT, "what can't be seen is not waited for"
    (left,) = [outcome for outcome in outcomes if not outcome.ended]
    assert left.item.kind == "online"
    assert "does not accept the sign-in. Sign in again" in left.why
    assert exit_code(outcomes) is ExitCode.SIGN_IN
    assert exit_code([outcome for outcome in outcomes if outcome.ended]) is ExitCode.DONE


@pytest.mark.parametrize("fault", ["answer-lost", "connection-reset", "throttled", "server-error", "token-expired"])
@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_faults_on_the_way_leave_nothing(azure: Azure, fault: str, method: str) -> None:
    everything(azure)
    azure.emu.faults.add(fault, method=method, times=1 if fault == "token-expired" else 2)
    outcomes = end_all(Access(), look(Access()).items)
    assert all(outcome.ended for outcome in outcomes)
    assert there(azure) == STRANGERS


def test_a_list_with_a_gap_is_no_list(azure: Azure) -> None:
    everything(azure)
    azure.emu.faults.add("server-error", method="GET", path="/serverlessEndpoints", times=-1)
    with pytest.raises(ServiceUnavailableError):
        look(Access())


def test_another_one_of_the_same_name_is_left_alone(azure: Azure) -> None:
    run = azure.completed("serverless-finetuning", mode="maas")
    deploy(azure.connection, run)
    (item,) = read_inventory(azure.connection).items
    azure.resources.delete("serverless", item.name)
    azure.emu.clock.advance(600)
    from azure.ai.ml.entities import ServerlessEndpoint

    other = ServerlessEndpoint(name=item.name, model_id="azureml://registries/azureml/models/Phi-4-mini-instruct")
    azure.resources.put("serverless", item.name, body=wire(other._to_rest_object()))
    (outcome,) = end(azure.connection, [item])
    assert not outcome.ended
    assert "azft did not make it" in outcome.why
    assert azure.resources.get("serverless", item.name) is not None


def test_a_cluster_that_somebodys_job_is_on_is_kept(azure: Azure) -> None:
    cluster(azure, "gpu", {TAG: "a" * 64, "azft.run": "linden-0000aaaa"})
    azure.emu.settings = azure.emu.settings.changed({"run_seconds": 1e6})
    details = {"taskType": "ChatCompletion", "model": {"uri": "x"}, "trainingData": {"uri": "y"}}
    body: dict[str, Any] = {"jobType": "FineTuning", "fineTuningDetails": details, "tags": {}}
    body["computeId"] = f"{azure.connection.workspace.id}/computes/gpu"
    azure.resources.put("job", "their-job", body={"properties": body})
    (outcome,) = end_all(Access(), select(look(Access()), "gpu"))
    assert (outcome.ended, outcome.why) == (False, "Jobs run on it: their-job. End them first.")
    azure.resources.act("job", "their-job", action="cancel")
    (outcome,) = end_all(Access(), select(look(Access()), "gpu"))
    assert outcome.ended


def test_a_failed_deployment_is_listed_and_ended(azure: Azure) -> None:
    run = azure.completed("pipeline")
    azure.emu.faults.add("image-build-failed")
    with pytest.raises(Exception, match="Image build failed"):
        deploy(azure.connection, run, instance_type=SIZE)
    (item,) = read_inventory(azure.connection).items
    assert item.bills
    assert item.detail.endswith(f"1 x {SIZE} (Failed)")
    assert [outcome.ended for outcome in end_all(Access(), [item])] == [True]


def test_a_workspace_that_only_a_record_names_is_looked_into_or_named(azure: Azure) -> None:
    run = azure.completed("serverless-finetuning", mode="maas")
    made = deploy(azure.connection, run)
    gone = EndpointRecord(
        "old", "serverless", "linden-0000eeee", "e" * 64, "linden:1", azure.connection.workspace.subscription, "azft",
        "another", "2026-11-01T00:00:00+00:00",
    )  # fmt: skip
    remember(gone, azure.root)
    whole = look(Access())
    assert [item.name for item in whole.items] == [made.name]
    assert [name for name, _ in whole.unknown] == ["another"]
    named = look(Access(workspace="azft-rehearsal"))
    assert named.unknown == (), "a workspace that is named is the only one"


def test_without_a_workspace_the_records_say_where(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(azure.connection, azure.completed("serverless-finetuning", mode="maas"))
    for name in ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZUREML_WORKSPACE_NAME"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(azure.folder))
    assert [item.kind for item in look(Access()).items] == ["serverless"]
    for file in (azure.root / "endpoints").iterdir():
        file.unlink()
    for run in (azure.root / "runs").iterdir():
        (run / "azure.json").unlink()
    with pytest.raises(UsageError, match="No workspace"):
        look(Access())
