"""A run's model behind one endpoint, whatever the answers on the way; checked before, explained after."""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from azft.azureml.deployment import DeploymentFailedError, deploy
from azft.azureml.endpoint_records import recorded
from azft.azureml.errors import ConflictError, LimitError, ServiceUnavailableError
from azft.azureml.serving_choice import choose_kind, choose_name
from azft.azureml.serving_machine import Need, choose
from azft.errors import ExitCode, FindingsError, JobFailedError, UsageError
from azft.files import write_json
from azft.payloads.wire import wire
from azft.runs import RunState
from azft.tags import TAG
from tests.helpers.azure_runs import SIZE, Azure, emulated


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with emulated(tmp_path, monkeypatch, provision_seconds=300.0) as found:
        yield found


def endpoints(azure: Azure) -> list[tuple[str, str]]:
    return [(kind, found.name) for kind in ("serverless", "online") for found in azure.resources.all(kind)]


def test_a_serverless_endpoint_for_serverless_fine_tuning(azure: Azure) -> None:
    run = azure.completed("serverless-finetuning", mode="maas")
    events: list[dict[str, Any]] = []
    made = deploy(azure.connection, run, on_event=events.append)
    assert (made.kind, made.model, made.state, made.created) == ("serverless", "linden:1", "Succeeded", True)
    assert "by the hour for hosting" in made.billing
    assert "unknown" in made.hourly
    states = [event["state"] for event in events if event["event"] == "state"]
    assert states == ["Creating", "Succeeded"]
    found = azure.resources.get("serverless", made.name)
    assert found is not None
    assert found.properties["modelSettings"]["modelId"].endswith("/models/linden/versions/1")
    assert {key: found.tags[key] for key in (TAG, "azft.run", "azft.model", "azft.kind")} == {
        TAG: run.plan["hash"],
        "azft.run": run.name,
        "azft.model": "linden:1",
        "azft.kind": "serverless",
    }


def test_a_bought_model_is_subscribed_to_first_and_once(azure: Azure) -> None:
    base = "azureml://registries/azureml-meta/models/Meta-Llama-3.1-8B-Instruct/labels/latest"
    run = azure.completed("serverless-finetuning", mode="maas", marketplace=True, model_id=base)
    events: list[dict[str, Any]] = []
    deploy(azure.connection, run, on_event=events.append)
    deploy(azure.connection, run, on_event=events.append)
    assert [event["model"] for event in events if event["event"] == "marketplace"] == [base.rpartition("/labels/")[0]]
    subscriptions = azure.resources.all("marketplace")
    assert [found.properties["modelId"] for found in subscriptions] == [base.rpartition("/labels/")[0]]
    assert subscriptions[0].name.startswith("azft-meta-llama-3-1-8b-instruct-")


def test_mlflow_without_code_for_the_registrys_pipeline(azure: Azure) -> None:
    made = deploy(azure.connection, azure.completed("system-pipeline"))
    assert (made.kind, made.instance_type, made.instance_count) == ("mlflow", SIZE, 1), "as the registry recommends"
    deployment = azure.resources.get("deployment", made.name, "azft")
    assert deployment is not None
    assert deployment.properties.get("environmentId") is None
    assert deployment.properties["livenessProbe"]["initialDelay"] == "PT10M"
    assert deployment.tags[TAG]
    endpoint = azure.resources.get("online", made.name)
    assert endpoint is not None
    assert endpoint.properties["traffic"] == {"azft": 100}


def test_vllm_on_the_merged_model_for_azfts_own_pipeline(azure: Azure) -> None:
    made = deploy(azure.connection, azure.completed("pipeline"), instance_type="Standard_NC48ads_A100_v4")
    deployment = azure.resources.get("deployment", made.name, "azft")
    assert deployment is not None
    properties = deployment.properties
    assert properties["modelMountPath"] == "/models"
    assert properties["environmentVariables"] == {
        "AZFT_MODEL_ROOT": "/models", "AZFT_MODEL_NAME": "linden", "AZFT_GPUS": "2",
    }  # fmt: skip
    name = properties["environmentId"].split("/environments/")[1].split("/")[0]
    environment = azure.resources.get("environment", name, "1")
    assert environment is not None
    routes = environment.properties["inferenceConfig"]
    assert {(routes[kind]["port"], routes[kind]["path"]) for kind in ("livenessRoute", "readinessRoute")} == {
        (8000, "/health")
    }
    path = environment.properties["build"]["contextUri"].partition("/azureml-blobstore/")[2]
    names = {blob.name.removeprefix(path) for blob in azure.connection.storage.list(path)}
    assert names == {"Dockerfile", "requirements.txt", "serve.sh"}


def test_a_run_of_this_machine_is_registered_and_served(azure: Azure) -> None:
    made = deploy(azure.connection, azure.local(), instance_type=SIZE)
    assert (made.kind, made.model) == ("vllm", "linden:0123abcd")


def test_deploying_twice_is_one_endpoint_and_sends_nothing_twice(azure: Azure) -> None:
    run = azure.completed("pipeline")
    first = deploy(azure.connection, run, instance_type=SIZE)
    before = azure.requests("PUT", "/")
    second = deploy(azure.connection, run)
    assert (second.name, second.created, second.instance_type) == (first.name, False, SIZE)
    assert azure.requests("PUT", "/") == before
    assert endpoints(azure) == [("online", first.name)]
    with pytest.raises(UsageError, match="is there already, on 1 x"):
        deploy(azure.connection, run, instance_type="Standard_NC48ads_A100_v4")


@pytest.mark.parametrize("fault", ["answer-lost", "connection-reset", "throttled", "server-error", "token-expired"])
@pytest.mark.parametrize("path", ["/onlineEndpoints/[^/]+$", "/deployments/"])
def test_an_unclear_answer_leads_to_one_endpoint(azure: Azure, fault: str, path: str) -> None:
    azure.emu.faults.add(fault, method="PUT", path=path, times=1 if fault == "token-expired" else 2)
    made = deploy(azure.connection, azure.completed("pipeline"), instance_type=SIZE)
    assert made.state == "Succeeded"
    assert endpoints(azure) == [("online", made.name)]
    assert [found.name for found in azure.resources.all("deployment", made.name)] == ["azft"]


@pytest.mark.parametrize("fault", ["answer-lost", "server-error", "not-visible-yet"])
def test_an_unclear_answer_leads_to_one_serverless_endpoint(azure: Azure, fault: str) -> None:
    azure.emu.faults.add(fault, method="PUT", path="/serverlessEndpoints/")
    made = deploy(azure.connection, azure.completed("serverless-finetuning", mode="maas"))
    assert endpoints(azure) == [("serverless", made.name)]


@pytest.mark.parametrize("service", ["serverless-finetuning", "pipeline"])
def test_two_shells_at_once_lead_to_one_endpoint(azure: Azure, service: str) -> None:
    serverless = service == "serverless-finetuning"
    run = azure.completed(service, mode="maas" if serverless else "maap")
    barrier = threading.Barrier(2)

    def go() -> str:
        barrier.wait()
        return deploy(azure.connection, run, instance_type=None if serverless else SIZE).name

    with ThreadPoolExecutor(2) as pool:
        names = [pool.submit(contextvars.copy_context().run, go) for _ in range(2)]
    assert {future.result() for future in names} == {name for _, name in endpoints(azure)}
    assert len(endpoints(azure)) == 1
    assert len(azure.resources.all("model", "linden")) == 1


def test_a_token_that_expires_before_the_traffic_is_set_is_renewed(azure: Azure) -> None:
    azure.emu.faults.add("token-expired", method="PUT", path="/onlineEndpoints/[^/]+$", after=1)
    made = deploy(azure.connection, azure.completed("pipeline"), instance_type=SIZE)
    endpoint = azure.resources.get("online", made.name)
    assert endpoint is not None
    assert endpoint.properties["traffic"] == {"azft": 100}


def test_an_outage_while_waiting_is_waited_out(azure: Azure) -> None:
    azure.emu.faults.add("server-error", method="GET", path="/serverlessEndpoints/", after=2, times=3)
    assert deploy(azure.connection, azure.completed("serverless-finetuning", mode="maas")).state == "Succeeded"


def test_somebody_elses_endpoint_is_refused_and_left_alone(azure: Azure) -> None:
    run = azure.completed("serverless-finetuning", mode="maas")
    name = choose_name(azure.connection, run, None)
    from azure.ai.ml.entities import ServerlessEndpoint

    other = ServerlessEndpoint(name=name, model_id="azureml://registries/azureml/models/Phi-4-mini-instruct")
    azure.resources.put("serverless", name, body=wire(other._to_rest_object()))
    with pytest.raises(ConflictError, match="this run did not make it"):
        deploy(azure.connection, run)
    found = azure.resources.get("serverless", name)
    assert found is not None
    assert TAG not in found.tags


def test_the_endpoint_is_recorded_before_it_is_asked_for_and_without_a_key(azure: Azure) -> None:
    run = azure.completed("pipeline")
    azure.emu.faults.add("server-error", method="PUT", path="/onlineEndpoints/", times=-1)
    with pytest.raises(ServiceUnavailableError):
        deploy(azure.connection, run, instance_type=SIZE)
    (record,) = recorded(azure.root)
    assert (record.run, record.kind, record.workspace) == (run.name, "vllm", "azft-rehearsal")
    azure.emu.faults.set([])
    made = deploy(azure.connection, run, instance_type=SIZE)
    keys = azure.resources.act("online", made.name, action="listKeys")
    texts = "".join(file.read_text(errors="replace") for file in azure.root.rglob("*") if file.is_file())
    assert keys["primaryKey"] not in texts
    assert keys["primaryKey"] not in json.dumps(made.to_dict())


def test_a_deployment_that_fails_is_explained_and_named_as_left_behind(azure: Azure) -> None:
    run = azure.completed("pipeline")
    azure.emu.faults.add("image-build-failed")
    with pytest.raises(DeploymentFailedError) as caught:
        deploy(azure.connection, run, instance_type=SIZE)
    error = caught.value
    assert error.exit_code == ExitCode.JOB_FAILED
    assert "Image build failed" in error.message
    assert "The deployment's log (InferenceServer)" in error.fix
    assert f"azft down {choose_name(azure.connection, run, None)}" in error.fix
    made = deploy(azure.connection, run, instance_type=SIZE)
    assert made.state == "Succeeded", "the failed one is sent once more, under its name"
    assert endpoints(azure) == [("online", made.name)]


def test_quota_is_looked_at_before_anything_is_made(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    azure.emu.settings = azure.emu.settings.changed({"quota": {"StandardNCADSA100v4Family": 23}})
    with pytest.raises(LimitError, match="24 cores of StandardNCADSA100v4Family needed, 0 of 23 in use") as caught:
        deploy(azure.connection, azure.completed("pipeline"), instance_type=SIZE)
    assert caught.value.exit_code == ExitCode.LIMIT
    assert endpoints(azure) == []


def test_a_quota_that_is_gone_in_between_is_a_limit_too(azure: Azure) -> None:
    run = azure.completed("pipeline")
    azure.emu.faults.add("quota-exhausted")
    with pytest.raises(LimitError):
        deploy(azure.connection, run, instance_type=SIZE)


@pytest.mark.parametrize(
    ("size", "code"),
    [
        ("Standard_NC4as_T4_v3", None),
        ("Standard_DS3_v2", "serve-no-gpu"),
        ("Standard_NC6s_v3", "serve-size-retired"),
    ],
)
def test_the_machine_is_checked_against_the_model(azure: Azure, size: str, code: str | None) -> None:
    run = azure.completed("pipeline")
    if code is None:
        assert deploy(azure.connection, run, instance_type=size).instance_type == size
        return
    with pytest.raises(FindingsError) as caught:
        deploy(azure.connection, run, instance_type=size)
    assert [finding.code for finding in caught.value.findings] == [code]
    assert endpoints(azure) == []


def test_a_model_that_is_too_large_is_refused(azure: Azure) -> None:
    run = azure.local(model="Llama-3.3-70B-Instruct")
    (run.folder / "outputs" / "packaged" / "model.safetensors").unlink()
    with pytest.raises(FindingsError) as caught:
        deploy(azure.connection, run, instance_type=SIZE)
    assert [finding.code for finding in caught.value.findings] == ["serve-too-small"]


def test_without_a_recommendation_the_size_is_asked_for_by_name(azure: Azure) -> None:
    with pytest.raises(FindingsError) as caught:
        deploy(azure.connection, azure.local())
    assert caught.value.findings[0].code == "serve-no-instance-type"
    assert "--instance-type, e.g. Standard_NC" in caught.value.fix


def test_sizes_that_would_be_warned_of_are_named_last() -> None:
    """Without a GPU a model of eight GiB answers in minutes: those sizes cost least, and are no advice."""
    need = Need(8 << 30, "its weights have 8.0 GiB")
    with pytest.raises(FindingsError) as caught:
        choose(None, (), need, needs_gpu=False)
    assert "e.g. Standard_NC4as_T4_v3, " in caught.value.fix
    with pytest.raises(FindingsError) as caught:
        choose(None, (), Need(1 << 30, "its weights have 1.0 GiB"), needs_gpu=False)
    assert "e.g. Standard_D12_v2, " in caught.value.fix  # a small one does well there


@pytest.mark.parametrize("service", ["system-pipeline", "pipeline"])
def test_a_run_without_a_model_is_told_before_machines_are_asked_for(azure: Azure, service: str) -> None:
    run = azure.running(service, model_id="azureml:mine:1")  # of which no registry recommends a size
    run.set_state(RunState.FAILED)
    with pytest.raises(JobFailedError, match=f"Run {run.name} has no model: it ended as Failed"):
        deploy(azure.connection, run)


def test_what_cannot_be_served_is_refused_before_anything_is_made(azure: Azure) -> None:
    adapter = azure.local(output={"model_name": None, "merge": False})
    with pytest.raises(UsageError, match="an adapter alone"):
        deploy(azure.connection, adapter, instance_type=SIZE)
    with pytest.raises(UsageError, match="can't be served as serverless"):
        deploy(azure.connection, adapter, kind="serverless")
    with pytest.raises(UsageError, match="no name for an endpoint"):
        deploy(azure.connection, azure.local("linden-0000bbbb"), name="1x")
    with pytest.raises(UsageError, match=r"vLLM, which writes texts or classifies them: its task is token-class"):
        deploy(azure.connection, azure.local("linden-0000cccc", task="token-classification"), instance_type=SIZE)
    electra = '{"model_type": "electra", "architectures": ["ElectraForSequenceClassification"]}'
    several = '{"architectures": ["BertForSequenceClassification"], "problem_type": "multi_label_classification"}'
    for name, task, config, words in (
        ("linden-0000aaaa", "text-classification", electra, "by Bert, ModernBert, .*: it is ElectraFor"),
        ("linden-0000abab", "text-classification", several, "names one label"),
        ("linden-0000dddd", "translation", '{"model_type": "t5"}', "serves decoders: it is an encoder-decoder"),
        ("linden-0000eeee", "question-answering", '{"model_type": "bert"}', "an encoder, and marks answers"),
    ):
        run = azure.local(name, task=task)
        (run.folder / "outputs" / "packaged" / "config.json").write_text(config, encoding="utf-8")
        with pytest.raises(UsageError, match=words) as caught:
            deploy(azure.connection, run, instance_type=SIZE)
        assert "modes.maap.pipeline: system" in caught.value.fix
    assert endpoints(azure) == []
    assert azure.requests("PUT", "/") == 0, "nothing was uploaded or registered, either"


@pytest.mark.parametrize(
    ("model", "kind"),
    [("FLAN-T5-small", "encoder-decoder"), ("bert-base-uncased", "encoder"), ("Phi-4-mini-instruct", None)],
)
def test_of_a_model_in_azure_the_catalog_knows_what_can_serve_it(azure: Azure, model: str, kind: str | None) -> None:
    run = azure.completed("pipeline")
    recipe = {**run.plan["recipe"], "task": "question-answering", "model": model}
    write_json(run.folder / "plan.json", {**run.plan, "recipe": recipe})
    if kind is None:
        assert choose_kind(run, None) == "vllm"
    else:
        with pytest.raises(UsageError, match=f"serves decoders: it is an {kind}"):
            choose_kind(run, None)


@pytest.mark.parametrize(
    ("task", "config", "served"),
    [
        ("text-classification", {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}, True),
        ("text-classification", {"model_type": "roberta", "architectures": ["RobertaForSequenceClassification"]}, True),
        ("text-classification", {"model_type": "phi3", "architectures": ["Phi3ForSequenceClassification"]}, True),
        ("text-classification", {"model_type": "t5", "architectures": ["T5ForSequenceClassification"]}, False),
        ("text-generation", {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}, True),
    ],
)
def test_vllm_classifies_by_decoders_and_by_the_encoders_whose_heads_it_has(
    azure: Azure, task: str, config: dict[str, Any], served: bool
) -> None:
    run = azure.local(task=task)
    write_json(run.folder / "outputs" / "packaged" / "config.json", config)
    if not served:
        with pytest.raises(UsageError, match="serves decoders: it is an encoder-decoder"):
            choose_kind(run, None)
        return
    made = deploy(azure.connection, run, instance_type=SIZE)
    endpoint = azure.resources.get("online", made.name)
    assert endpoint is not None
    assert (made.kind, endpoint.tags["azft.task"]) == ("vllm", task)


def test_of_a_classifier_in_azure_the_catalog_knows_whether_vllm_has_its_head(azure: Azure) -> None:
    run = azure.completed("pipeline")
    for model, served in (("all-MiniLM-L6-v2", True), ("roberta-base", True), ("FLAN-T5-small", False)):
        recipe = {**run.plan["recipe"], "task": "text-classification", "model": model}
        write_json(run.folder / "plan.json", {**run.plan, "recipe": recipe})
        if served:
            assert choose_kind(run, None) == "vllm"
        else:
            with pytest.raises(UsageError, match="serves decoders"):
                choose_kind(run, None)


@pytest.mark.parametrize("column", ["labels", "topics"])
def test_of_a_classifier_in_azure_the_rows_know_whether_it_tells_several_labels(azure: Azure, column: str) -> None:
    run = azure.completed("pipeline")
    rows = azure.folder / "rows.jsonl"
    recipe = {**run.plan["recipe"], "task": "text-classification", "model": "roberta-base", "data": {"columns": {}}}
    inputs = [{"role": "train", "path": str(rows)}]
    write_json(run.folder / "plan.json", {**run.plan, "recipe": recipe, "inputs": inputs})
    assert choose_kind(run, None) == "vllm", "the file isn't here any more"
    rows.write_text(json.dumps({"text": "a", column: ["x", "y"]}) + "\n")
    with pytest.raises(UsageError, match="names one label"):
        choose_kind(run, None)
    rows.write_text(json.dumps({"text": "a", "label": "x"}) + "\n")
    assert choose_kind(run, None) == "vllm"


def test_the_endpoints_name_is_the_runs_within_azures_rules(azure: Azure) -> None:
    names = set()
    for number, name in enumerate(["linden", "My_Long_Recipe_Name_With_Underscores", "9lives"]):
        run = azure.local(f"{name}-0000aaa{number}")
        names.add(choose_name(azure.connection, run, None))
    assert all(3 <= len(name) <= 32 and name[0].isalpha() and name == name.lower() for name in names)
    assert len(names) == 3
    assert any(name.startswith("linden-0000aaa0-") for name in names)


def test_a_known_price_is_shown(azure: Azure, monkeypatch: pytest.MonkeyPatch) -> None:
    prices = azure.folder / "prices.yaml"
    prices.write_text(f"currency: EUR\nhourly:\n  {SIZE}: 3.5\n", encoding="utf-8")
    monkeypatch.setenv("AZFT_PRICES", str(prices))
    made = deploy(azure.connection, azure.completed("pipeline"), instance_type=SIZE, instances=2)
    assert made.hourly == f"7.00 EUR an hour ({prices})"
