"""Endpoints of both kinds, by the SDK as it comes: made, asked, ended; and what the service refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.ai.ml.entities import (
    ManagedOnlineDeployment,
    ManagedOnlineEndpoint,
    MarketplaceSubscription,
    Model,
    ServerlessEndpoint,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from azft.emulator import Emulator, compute, registry
from azft.emulator.job_outputs import place_of
from azft.emulator.serving import ModelServers
from azft.emulator.workspace import workspace_guid
from tests.emulator.test_jobs import Wire
from tests.helpers.azure_sdk import ml_client

SERVER = """
import json, pathlib, sys
model = pathlib.Path(sys.argv[sys.argv.index("--model") + 1])
print("serving", model.name, file=sys.stderr, flush=True)
for line in sys.stdin:
    request = json.loads(line)
    last = request["messages"][-1]["content"]
    if last == "die":
        sys.exit(1)
    told = {"error": "too hard"} if last == "hard" else {
        "content": (model / "word.txt").read_text() + f" {last} {request['max_tokens']} {request['temperature']}"}
    print(json.dumps(told), flush=True)
"""
QUESTION = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 7}
GPU = "Standard_NC24ads_A100_v4"


class Place:
    """A workspace with a plain model, an MLflow model, and one that serverless fine-tuning made."""

    def __init__(self, emu: Emulator, folder: Path) -> None:
        self.emu = emu
        (folder / "server.py").write_text(SERVER)
        emu.settings = emu.settings.changed({"server_command": [sys.executable, str(folder / "server.py")]})
        emu.clock.manual = True
        self.client: Any = ml_client(emu)
        weights = folder / "weights"
        weights.mkdir()
        (weights / "word.txt").write_text("tuned")
        (weights / "MLmodel").write_text("flavors:\n  python_function: {loader_module: x, python_version: 3.11}\n")
        for name, kind in (("plain", "custom_model"), ("mlflow", "mlflow_model")):
            self.client.models.create_or_update(Model(name=name, version="1", path=str(weights), type=kind))
        registry.seed_model(emu, "azureml", "Phi", "1", weights)
        registry.seed_model(emu, "azureml-meta", "Llama", "1", weights)
        self.wire = Wire(emu)
        output = place_of(emu, None, "one/registered_model").path
        output.mkdir(parents=True)
        (output / "word.txt").write_text("fine-tuned")

    def tune(self, model: str = "azureml://registries/azureml/models/Phi/versions/1") -> str:
        """A fine-tuned model's id in the form that serverless endpoints take."""
        details = {
            "taskType": "chatCompletion",
            "model": {"uri": model},
            "trainingData": {"uri": "azureml:rows:1"},
        }
        assert self.wire.put("one", fineTuningDetails=details).status_code == 201
        assert self.wire.status("one") == "Completed"
        return f"azureml://locations/eastus2/workspaces/{workspace_guid(self.emu)}/models/tuned/versions/1"

    def serverless(self, name: str, model: str) -> Any:
        endpoint = ServerlessEndpoint(name=name, model_id=model, tags={"azft.run": "one"})
        return self.client.serverless_endpoints.begin_create_or_update(endpoint).result()

    def online(self, name: str = "talk") -> Any:
        endpoint = ManagedOnlineEndpoint(name=name, auth_mode="key", tags={"azft.run": "one"})
        return self.client.online_endpoints.begin_create_or_update(endpoint).result()

    def deployment(self, model: str = "azureml:mlflow:1", **more: Any) -> ManagedOnlineDeployment:
        fields = {"instance_type": GPU, "instance_count": 1, **more}
        return ManagedOnlineDeployment(name="blue", endpoint_name="talk", model=model, **fields)

    def deploy(self, model: str = "azureml:mlflow:1", **more: Any) -> Any:
        return self.client.online_deployments.begin_create_or_update(self.deployment(model, **more)).result()

    def route(self, share: int = 100) -> None:
        endpoint = self.client.online_endpoints.get("talk")
        endpoint.traffic = {"blue": share}
        self.client.online_endpoints.begin_create_or_update(endpoint).result()


@pytest.fixture
def place(core: Emulator, tmp_path: Path) -> Place:
    return Place(core, tmp_path)


def ask(url: str, key: str | None, body: Any = QUESTION, **headers: str) -> requests.Response:
    given = {} if key is None else {"Authorization": key}
    return requests.post(url, json=body, headers={**given, **headers}, timeout=30)


def test_a_fine_tuned_model_answers_serverlessly_and_is_gone_after(place: Place) -> None:
    made = place.serverless("talk", place.tune())
    assert (made.provisioning_state, made.tags) == ("succeeded", {"azft.run": "one"})
    keys = place.client.serverless_endpoints.get_keys("talk")
    url = f"{made.scoring_uri}/v1/chat/completions"
    answer = ask(url, keys.primary_key)
    assert answer.json()["choices"][0]["message"] == {"role": "assistant", "content": "fine-tuned hi 7 0.0"}
    assert ask(url, f"Bearer {keys.secondary_key}").status_code == 200
    assert ask(url, "wrong").status_code == 401
    assert ask(url, None).status_code == 401
    # azure-ai-ml 1.35.2 can't: its begin_regenerate_keys raises TypeError.
    place.wire.ask("POST", "serverlessEndpoints/talk/regenerateKeys", json={"keyType": "Primary"}).raise_for_status()
    new = place.client.serverless_endpoints.get_keys("talk")
    assert new.primary_key != keys.primary_key
    assert ask(url, keys.primary_key).status_code == 401
    assert [endpoint.name for endpoint in place.client.serverless_endpoints.list()] == ["talk"]
    place.client.serverless_endpoints.begin_delete("talk").result()
    with pytest.raises(ResourceNotFoundError):
        place.client.serverless_endpoints.get("talk")
    assert ask(url, new.primary_key).status_code == 404


def test_the_process_that_answered_serverlessly_ends_with_its_endpoint(place: Place) -> None:
    """It holds the whole model in memory: an emulator that is kept would fill the machine."""
    made = place.serverless("talk", place.tune())
    key = place.client.serverless_endpoints.get_keys("talk").primary_key
    assert ask(f"{made.scoring_uri}/v1/chat/completions", key).status_code == 200
    servers = place.emu.part(ModelServers)
    (running,) = servers._servers.values()
    place.client.serverless_endpoints.begin_delete("talk").result()
    assert not running.alive()
    assert servers._servers == {}


def test_a_registrys_model_is_served_without_a_version(place: Place) -> None:
    made = place.serverless("talk", "azureml://registries/azureml/models/Phi")
    key = place.client.serverless_endpoints.get_keys("talk").primary_key
    answer = ask(f"{made.scoring_uri}/chat/completions", key).json()
    assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("Phi", "tuned hi 7 0.0")


def test_an_answer_can_be_streamed(place: Place) -> None:
    made = place.serverless("talk", place.tune())
    key = place.client.serverless_endpoints.get_keys("talk").primary_key
    answer = ask(f"{made.scoring_uri}/v1/chat/completions", key, {**QUESTION, "stream": True})
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    pieces = [json.loads(event)["choices"][0] for event in events[:-1]]
    assert "".join(piece["delta"].get("content", "") for piece in pieces) == "fine-tuned hi 7 0.0"
    assert pieces[-1]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("azureml://registries/azureml/models/Phi/versions/1", "names a version"),
        ("azureml://locations/eastus2/workspaces/x/models/tuned", "needs a version"),
        ("azureml://locations/westus/workspaces/x/models/tuned/versions/1", "another region"),
        ("azureml://locations/eastus2/workspaces/x/models/plain/versions/1", "not made by serverless fine-tuning"),
        ("nonsense", "not valid"),
    ],
)
def test_serverless_ids_in_the_wrong_form_are_refused(place: Place, model: str, words: str) -> None:
    body = {"location": "eastus2", "sku": {"name": "Consumption"}, "properties": {"modelSettings": {"modelId": model}}}
    refused = place.wire.ask("PUT", "serverlessEndpoints/talk", json=body)
    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]


def test_a_third_partys_model_needs_a_subscription(place: Place) -> None:
    llama = "azureml://registries/azureml-meta/models/Llama"
    model = place.tune(f"{llama}/versions/1")
    with pytest.raises(HttpResponseError, match="marketplace subscription"):
        place.serverless("talk", model)
    subscriptions = place.client.marketplace_subscriptions
    made = subscriptions.begin_create_or_update(MarketplaceSubscription(name="meta", model_id=llama)).result()
    assert made.status == "subscribed"
    assert place.serverless("talk", model).provisioning_state == "succeeded"
    versioned = place.wire.ask(
        "PUT", "marketplaceSubscriptions/other", json={"properties": {"modelId": f"{llama}/versions/1"}}
    )
    assert "without a version" in versioned.json()["error"]["message"]
    subscriptions.begin_delete("meta").result()
    assert list(subscriptions.list()) == []


def test_a_region_can_refuse_to_serve(place: Place) -> None:
    model = place.tune()
    place.emu.faults.add("region-refuses-model")
    with pytest.raises(HttpResponseError, match="not available for serverless deployment in eastus2"):
        place.serverless("talk", model)


def test_an_mlflow_model_is_scored_without_code(place: Place, tmp_path: Path) -> None:
    endpoint = place.online()
    assert endpoint.scoring_uri.endswith("/online/talk/score")
    place.deploy()
    place.route()
    request = tmp_path / "request.json"
    request.write_text(
        json.dumps({"input_data": {"input_string": QUESTION["messages"], "parameters": {"max_new_tokens": 5}}})
    )
    told = place.client.online_endpoints.invoke("talk", deployment_name="blue", request_file=str(request))
    assert json.loads(told) == {"output": "tuned hi 5 0.0"}
    told = place.client.online_endpoints.invoke("talk", request_file=str(request))
    assert json.loads(told) == {"output": "tuned hi 5 0.0"}
    key = place.client.online_endpoints.get_keys("talk").primary_key
    assert ask(endpoint.scoring_uri, f"Bearer {key}", {"wrong": 1}).status_code == 400
    assert ask(endpoint.scoring_uri.replace("/score", "/v1/chat/completions"), f"Bearer {key}").status_code == 404
    assert "serving" in place.client.online_deployments.get_logs("blue", "talk", lines=10)


def test_an_image_of_ones_own_answers_chats(place: Place) -> None:
    from azure.ai.ml.entities import Environment

    routes = {kind: {"port": 8000, "path": "/health"} for kind in ("liveness_route", "readiness_route")}
    environment = Environment(
        name="vllm",
        version="1",
        image="example/vllm:1",
        inference_config={**routes, "scoring_route": {"port": 8000, "path": "/"}},
    )
    place.client.environments.create_or_update(environment)
    place.online()
    place.deploy("azureml:plain:1", environment="azureml:vllm:1", model_mount_path="/models")
    place.route()
    base = place.client.online_endpoints.get("talk").scoring_uri.rstrip("/")
    key = f"Bearer {place.client.online_endpoints.get_keys('talk').primary_key}"
    assert ask(f"{base}/v1/chat/completions", key).json()["choices"][0]["message"]["content"] == "tuned hi 7 0.0"
    assert requests.get(f"{base}/health", headers={"Authorization": key}, timeout=30).status_code == 200
    models = requests.get(f"{base}/v1/models", headers={"Authorization": key}, timeout=30).json()
    assert [model["id"] for model in models["data"]] == ["plain"]
    hard = ask(f"{base}/v1/chat/completions", key, {"messages": [{"role": "user", "content": "hard"}]})
    assert (hard.status_code, hard.json()["error"]["message"]) == (424, "too hard")
    dead = ask(f"{base}/v1/chat/completions", key, {"messages": [{"role": "user", "content": "die"}]})
    assert dead.status_code == 424
    assert ask(f"{base}/v1/chat/completions", key).status_code == 200  # it was started again


def test_states_follow_the_clock_until_the_end(place: Place) -> None:
    place.emu.settings = place.emu.settings.changed({"provision_seconds": 60})
    body = {"location": "eastus2", "kind": "Managed", "properties": {"authMode": "Key"}}
    made = place.wire.ask("PUT", "onlineEndpoints/talk", json=body)
    assert (made.status_code, made.json()["properties"]["provisioningState"]) == (201, "Creating")
    operation = made.headers["Azure-AsyncOperation"]
    states = [requests.get(operation, headers=place.wire.headers, timeout=30).json()["status"]]
    place.emu.clock.advance(60)
    states.append(requests.get(operation, headers=place.wire.headers, timeout=30).json()["status"])
    assert states == ["InProgress", "Succeeded"]
    assert place.wire.ask("DELETE", "onlineEndpoints/talk").status_code == 202
    found = place.wire.ask("GET", "onlineEndpoints/talk").json()
    assert found["properties"]["provisioningState"] == "Deleting"
    place.emu.clock.advance(60)
    assert place.wire.ask("GET", "onlineEndpoints/talk").status_code == 404
    assert place.wire.ask("DELETE", "onlineEndpoints/talk").status_code == 204


def test_a_deployment_that_cant_be_built_fails_and_says_why(place: Place) -> None:
    from azure.ai.ml.entities import Environment

    place.client.environments.create_or_update(Environment(name="vllm", version="1", image="example/vllm:1"))
    place.online()
    place.emu.faults.add("image-build-failed")
    with pytest.raises(HttpResponseError, match="Image build failed"):
        place.deploy("azureml:plain:1", environment="azureml:vllm:1")
    assert place.client.online_deployments.get("blue", "talk").provisioning_state == "Failed"
    assert "Image build failed" in place.client.online_deployments.get_logs("blue", "talk", lines=10)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"instance_type": "Standard_Potato"}, "Standard_Potato"),
        ({"instance_count": 100}, "Not enough quota"),
        ({"model": "azureml:plain:1"}, "needs a model of type mlflow_model"),
    ],
)
def test_a_deployment_that_cant_be_is_refused(place: Place, more: dict[str, Any], words: str) -> None:
    place.online()
    with pytest.raises(HttpResponseError, match=words):
        place.deploy(**more)
    assert list(place.client.online_deployments.list("talk")) == []


def test_a_deployment_takes_cores_until_it_is_gone(place: Place) -> None:
    place.online()
    place.deploy()

    def used() -> int:
        return compute.in_use(place.emu, "StandardNCADSA100v4Family")

    assert used() == 24
    place.route()
    with pytest.raises(HttpResponseError, match="gets 100 % of the traffic"):
        place.client.online_deployments.begin_delete("blue", "talk").result()
    place.client.online_endpoints.begin_delete("talk").result()
    assert used() == 0
    with pytest.raises(ResourceNotFoundError):
        place.client.online_endpoints.get("talk")


def test_traffic_goes_only_to_what_is_there_and_adds_up(place: Place) -> None:
    place.online()
    with pytest.raises(HttpResponseError, match="not there: blue"):
        place.route()
    place.deploy()
    with pytest.raises(HttpResponseError, match="they make 60"):
        place.route(60)
    key = f"Bearer {place.client.online_endpoints.get_keys('talk').primary_key}"
    url = place.client.online_endpoints.get("talk").scoring_uri
    body = {"input_data": {"input_string": QUESTION["messages"]}}
    assert ask(url, key, body).status_code == 404  # nothing gets traffic
    assert ask(url, key, body, **{"azureml-model-deployment": "blue"}).status_code == 200
