"""Assets, datastores and clusters, by azure-ai-ml as it comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml import load_component
from azure.ai.ml.entities import AmlCompute, BuildContext, Data, Environment, Model
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from azft.emulator import ApiError, Emulator, Settings, assets, references, registry
from azft.emulator.settings import ACCOUNT, CONTAINER
from tests.helpers.azure_sdk import blob_client, ml_client, sent

COMPONENT = """
name: train_step
version: "1"
type: command
inputs: {data: {type: uri_file}, epochs: {type: integer, default: 3, min: 1}}
outputs: {model: {type: uri_folder}}
code: ./code
environment: {image: "example/image:1"}
command: python main.py --data ${{inputs.data}} --model ${{outputs.model}}
"""
STORE = (
    "azureml://subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/azft/workspaces/azft-rehearsal"
    "/datastores/workspaceblobstore/paths/"
)


@pytest.fixture
def client(core: Emulator) -> Any:
    return ml_client(core)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with code, data and two kinds of model."""
    for name, content in {
        "code/main.py": "print(1)",
        "code/more.py": "print(2)",
        "component.yaml": COMPONENT,
        "train.jsonl": "{}\n",
        "weights/model.bin": "1" * 100,
        "mlflow/MLmodel": "flavors:\n  python_function: {loader_module: x, python_version: 3.11}\n",
        "image/Dockerfile": "FROM scratch",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_workspace_is_found_and_another_is_not(core: Emulator, client: Any) -> None:
    found = client.workspaces.get()
    assert (found.name, found.location) == ("azft-rehearsal", "eastus2")
    assert found.mlflow_tracking_uri.startswith(f"azureml://{core.url.removeprefix('https://')}/mlflow/")
    assert [item.name for item in client.workspaces.list()] == ["azft-rehearsal"]
    with pytest.raises(ResourceNotFoundError):
        client.workspaces.get("another")


def test_data_is_uploaded_once(core: Emulator, client: Any, folder: Path) -> None:
    made = client.data.create_or_update(
        Data(name="rows", version="1", path=str(folder / "train.jsonl"), type="uri_file")
    )
    assert made.path.startswith(STORE + "LocalUpload/")
    assert references.folder(core, "azureml:rows:1", "data").read_text() == "{}\n"
    core.log.clear()
    again = client.data.create_or_update(Data(name="rows", path=str(folder / "train.jsonl"), type="uri_file"))
    assert again.version == "2"  # the service counts on
    assert again.path == made.path
    assert not [entry for entry in sent(core, ACCOUNT) if entry["method"] == "PUT"]
    assert client.data.get("rows", label="latest").version == "2"
    assert [item.version for item in client.data.list(name="rows")] == ["2", "1"]


def test_a_version_never_becomes_another_asset(client: Any, folder: Path) -> None:
    made = Data(name="rows", version="1", path="azureml://datastores/workspaceblobstore/paths/a", type="uri_file")
    client.data.create_or_update(made)
    made.description, made.tags = "changed", {"a": "b"}
    changed = client.data.create_or_update(made)
    assert (changed.description, changed.tags) == ("changed", {"a": "b"})
    other = Data(name="rows", version="1", path="azureml://datastores/workspaceblobstore/paths/b", type="uri_file")
    with pytest.raises(HttpResponseError) as caught:
        client.data.create_or_update(other)
    assert (caught.value.status_code, caught.value.error.code) == (400, "UserError")


def test_models_are_registered_downloaded_and_have_flavors(
    core: Emulator, client: Any, folder: Path, tmp_path: Path
) -> None:
    plain = client.models.create_or_update(Model(name="plain", path=str(folder / "weights"), tags={"a": "b"}))
    assert (plain.version, plain.tags) == ("1", {"a": "b"})
    client.models.download("plain", "1", str(tmp_path / "down"))
    assert [path.read_text() for path in (tmp_path / "down").rglob("model.bin")] == ["1" * 100]
    made = client.models.create_or_update(Model(name="flow", path=str(folder / "mlflow"), type="mlflow_model"))
    assert made.flavors == {"python_function": {"loader_module": "x", "python_version": "3.11"}}
    assert {item.name for item in client.models.list()} == {"plain", "flow"}
    assert client.models.get("flow", label="latest").type == "mlflow_model"


def test_a_model_must_be_what_it_says(core: Emulator, client: Any, folder: Path) -> None:
    with pytest.raises(HttpResponseError, match="MLmodel"):
        client.models.create_or_update(Model(name="flow", path=str(folder / "weights"), type="mlflow_model"))
    with pytest.raises(HttpResponseError, match="does not exist"):
        client.models.create_or_update(Model(name="m", path=STORE + "nowhere"))
    with pytest.raises(ResourceNotFoundError):
        client.models.create_or_update(Model(name="m", path="azureml://jobs/nope/outputs/model"))
    core.blob_path(ACCOUNT, CONTAINER, "azureml/j/model/deep").mkdir(parents=True)
    core.state.put(
        references.JOB_OUTPUTS, "j", {"model": "azureml://datastores/workspaceblobstore/paths/azureml/j/model/"}
    )
    made = client.models.create_or_update(Model(name="m", path="azureml://jobs/j/outputs/model/paths/deep"))
    assert made.path == STORE + "azureml/j/model/deep"


def test_code_is_found_by_its_content(core: Emulator, client: Any, folder: Path, tmp_path: Path) -> None:
    first = client.components.create_or_update(load_component(folder / "component.yaml"))
    assert references.folder(core, first.code, "codes").joinpath("main.py").read_text() == "print(1)"
    core.log.clear()
    other = load_component(folder / "component.yaml", params_override=[{"version": "2"}])
    assert client.components.create_or_update(other).code == first.code
    assert not sent(core, "startPendingUpload")
    assert not sent(core, ACCOUNT)
    found = client.components.get("train_step", "1")
    assert found._to_dict()["inputs"]["epochs"] == {"type": "integer", "default": "3", "min": "1"}
    assert found.command == first.command
    name, version = first.code.split("/")[-3], first.code.split("/")[-1]
    client._code.download(name, version, str(tmp_path / "code-again"))
    assert {path.name for path in (tmp_path / "code-again").rglob("*.py")} == {"main.py", "more.py"}


def test_an_environments_build_context_arrives(core: Emulator, client: Any, folder: Path) -> None:
    made = client.environments.create_or_update(
        Environment(name="image", build=BuildContext(path=str(folder / "image")))
    )
    assert made.build.path.startswith(f"https://{ACCOUNT}.blob.core.windows.net/{CONTAINER}/LocalUpload/")
    assert (references.folder(core, made.build.path) / "Dockerfile").read_text() == "FROM scratch"
    assert client.environments.get("image", label="latest").version == made.version


def test_with_storage_keys_disabled_uploads_go_by_identity(core: Emulator, client: Any, folder: Path) -> None:
    core.faults.add("storage-keys-disabled", times=-1)
    client.data.create_or_update(Data(name="rows", version="1", path=str(folder / "train.jsonl"), type="uri_file"))
    client.components.create_or_update(load_component(folder / "component.yaml"))
    assert not sent(core, "listSecrets")
    with pytest.raises(HttpResponseError):
        client.datastores._list_secrets("workspaceblobstore", expirable_secret=True)


def test_a_workspace_that_does_not_know_of_disabled_keys_hands_out_a_sas_that_opens_nothing(
    core: Emulator, client: Any, folder: Path
) -> None:
    core.faults.add("storage-keys-disabled", times=-1, params={"workspace": "accesskey"})
    token = client.datastores._list_secrets("workspaceblobstore", expirable_secret=True).sas_token
    with pytest.raises(HttpResponseError) as caught:
        blob_client(core, token).upload_blob("x", b"1")
    assert caught.value.error_code == "KeyBasedAuthenticationNotPermitted"


def test_lists_come_in_pages(core: Emulator, client: Any) -> None:
    for number in range(205):
        properties = {"dataUri": "azureml://datastores/workspaceblobstore/paths/x", "dataType": "uri_file"}
        assets.create(core, assets.WORKSPACE_SCOPE, "data", "many", str(number), properties)
    assert [item.version for item in client.data.list(name="many")] == [str(number) for number in reversed(range(205))]
    assert len(sent(core, "/data/many/versions")) == 3


# References


@pytest.mark.parametrize(
    "reference",
    [
        "azureml:rows:1",
        "azureml:rows@latest",
        "azureml:/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/data/rows/versions/1",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/data/rows/labels/latest",
        "azureml://locations/eastus2/workspaces/0/data/rows/versions/1",
        "azureml://datastores/workspaceblobstore/paths/a/b",
        STORE + "a/b",
        f"https://{ACCOUNT}.blob.core.windows.net/{CONTAINER}/a/b",
        f"https://127.0.0.1:1/{ACCOUNT}/{CONTAINER}/a/b",
    ],
)
def test_a_reference_leads_to_its_files(core: Emulator, reference: str) -> None:
    properties = {"dataUri": "azureml://datastores/workspaceblobstore/paths/a/b", "dataType": "uri_folder"}
    assets.create(core, assets.WORKSPACE_SCOPE, "data", "rows", "1", properties)
    assert references.folder(core, reference, "data") == core.blob_path(ACCOUNT, CONTAINER, "a/b")


@pytest.mark.parametrize(
    ("reference", "status"),
    [
        ("azureml:rows:2", 404),
        ("azureml:rows@production", 404),
        ("azureml://registries/azureml/models/none/labels/latest", 404),
        ("azureml://datastores/mine/paths/a", 404),
        ("azureml://datastores/workspaceblobstore/paths/../../secret", 400),
        ("https://elsewhere.example/a/b", 400),
        ("./local", 400),
    ],
)
def test_a_reference_to_nothing_says_so(core: Emulator, reference: str, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        references.folder(core, reference, "data")
    assert caught.value.status == status


# Registries


def test_a_registry_has_what_was_put_into_it(core: Emulator, folder: Path, tmp_path: Path) -> None:
    tags = {"finetune_compute_allow_list": "['Standard_NC24ads_A100_v4']"}
    registry.seed_model(core, "azureml", "tiny", "1", folder / "weights")
    registry.seed_model(core, "azureml", "tiny", "2", folder / "weights", tags=tags, properties={"p": "q"})
    spec = {
        "type": "command",
        "command": "echo",
        "environment": "azureml://registries/azureml/environments/e/versions/1",
    }
    registry.seed_component(
        core, "azureml", "chat_completion_pipeline", "0.0.82", {**spec, "inputs": {"n": {"type": "String"}}}
    )
    client = ml_client(core, registry="azureml")
    found = client.models.get("tiny", label="latest")
    assert (found.id, found.tags) == ("azureml://registries/azureml/models/tiny/versions/2", tags)
    assert found.properties == {"p": "q"}
    assert [item.name for item in client.models.list()] == ["tiny"]
    client.models.download("tiny", "2", str(tmp_path / "down"))
    assert [path.read_text() for path in (tmp_path / "down").rglob("model.bin")] == ["1" * 100]
    component = client.components.get("chat_completion_pipeline", label="latest")
    assert component.id == "azureml://registries/azureml/components/chat_completion_pipeline/versions/0.0.82"
    assert component._to_dict()["inputs"] == {"n": {"type": "string"}}
    with pytest.raises(ResourceNotFoundError):
        client.models.get("tiny", version="3")


def test_a_registry_that_is_not_there(core: Emulator) -> None:
    with pytest.raises(ResourceNotFoundError):
        ml_client(core, registry="nobodys")
    found = references.find_asset(core, "azureml:tiny:1")  # without a kind it is no reference to an asset
    assert found is None


# Clusters and quota


def test_a_cluster_is_made_and_removed_by_the_clock(core: Emulator, client: Any) -> None:
    core.settings = core.settings.changed({"provision_seconds": 60})
    cluster = AmlCompute(
        name="gpu", size="STANDARD_NC24ADS_A100_V4", max_instances=4, idle_time_before_scale_down=300, tags={"a": "b"}
    )
    poller = client.compute.begin_create_or_update(cluster)
    assert client.compute.get("gpu").provisioning_state == "Creating"
    core.clock.advance(61)
    made = poller.result()
    assert (made.provisioning_state, made.max_instances, made.min_instances) == ("Succeeded", 4, 0)
    assert (made.idle_time_before_scale_down, made.tags, made.tier) == (300, {"a": "b"}, "dedicated")
    assert [item.name for item in client.compute.list()] == ["gpu"]
    removed = client.compute.begin_delete("gpu")
    assert client.compute.get("gpu").provisioning_state == "Deleting"
    core.clock.advance(61)
    removed.wait()
    assert list(client.compute.list()) == []
    with pytest.raises(ResourceNotFoundError):
        client.compute.get("gpu")


def test_sizes_and_quota_are_those_of_the_settings(core: Emulator, client: Any) -> None:
    core.settings = core.settings.changed({"quota": {"StandardNCADSA100v4Family": 24}})
    sizes = {size.name: size for size in client.compute.list_sizes()}
    largest = vars(sizes["Standard_NC96ads_A100_v4"])
    # azure-ai-ml 1.35.2 leaves `v_cp_us`, like `current_value` of a usage, unset, and the wire's own name beside it.
    assert (largest["gpus"], largest["vCPUs"]) == (4, 96)
    usage = {item.name["value"]: item for item in client.compute.list_usage()}
    assert usage["StandardNCADSA100v4Family"].limit == 24
    client.compute.begin_create_or_update(
        AmlCompute(name="one", size="Standard_NC24ads_A100_v4", min_instances=1)
    ).result()
    usage = {item.name["value"]: vars(item) for item in client.compute.list_usage()}
    assert usage["StandardNCADSA100v4Family"]["currentValue"] == 24
    with pytest.raises(HttpResponseError, match="quota"):
        client.compute.begin_create_or_update(AmlCompute(name="two", size="Standard_NC48ads_A100_v4"))
    with pytest.raises(HttpResponseError, match="not supported"):
        client.compute.begin_create_or_update(AmlCompute(name="two", size="Standard_NC6s_v3"))
    with pytest.raises(HttpResponseError):
        list(client.compute.list_usage(location="nowhere"))


def test_an_exhausted_quota_shows_in_the_usage(core: Emulator, client: Any) -> None:
    core.faults.add("quota-exhausted", where={"family": "StandardNCADSA100v4Family"})
    usage = {item.name["value"]: vars(item) for item in client.compute.list_usage()}
    full, other = usage["StandardNCADSA100v4Family"], usage["standardNDSH100v5Family"]
    assert full["currentValue"] == full["limit"]
    assert other["currentValue"] == 0
    with pytest.raises(HttpResponseError, match="quota"):
        client.compute.begin_create_or_update(AmlCompute(name="one", size="Standard_NC24ads_A100_v4"))


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="queue_second"):
        Settings().changed({"queue_second": 1})
    sizes = [{"name": "S", "family": "F", "vcpus": 1, "memory_gb": 1, "gpus": 0}]
    assert Settings().changed({"vm_sizes": sizes}).vm_sizes[0].name == "S"
