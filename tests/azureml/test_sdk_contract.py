"""What azft uses of azure-ai-ml's and azure-identity's private surface. A new version that changes it fails here."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
import pytest

from azft.azureml.submission import _VERSIONS, job_body
from azft.modes.maap import MaapMode
from azft.modes.maas import MaasMode
from azft.payloads import build_job
from azft.pipeline import quiet_sdk, write_parameters
from azft.plan import Plan
from azft.staging import stage_code
from tests.helpers.azure_shop import Azure, plan_in
from tests.helpers.toy import Toy


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("azure-ai-ml").startswith("1.35.")


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_clients_that_requests_go_through(azure: Azure) -> None:
    from azure.ai.ml._utils.utils import download_text_from_url

    client = azure.connect().client
    assert callable(client._service_client_01_2024_preview_arm.send_request)
    assert parameters(client.jobs._resolve_arm_id_or_upload_dependencies) == ["job"]
    assert parameters(client.jobs._get_named_output_uri) == ["job_name", "output_names"]
    assert client.components._client_key is None
    assert parameters(client.models._get_latest_version) == ["name"]
    assert parameters(client.datastores._list_secrets)[:2] == ["name", "expirable_secret"]
    assert parameters(client.workspaces._operation.get)[:2] == ["resource_group_name", "workspace_name"]
    assert not client.jobs._api_base_url  # as long as nobody asked for it
    assert client.jobs._requests_pipeline is not None
    assert parameters(download_text_from_url)[:2] == ["source_uri", "requests_pipeline"]
    runs = client.jobs._runs_operations._operation
    scope = ["subscription_id", "resource_group_name", "workspace_name", "run_id"]
    assert parameters(runs.get_child)[:4] == scope
    assert parameters(runs.get_details)[:4] == scope


def test_the_question_by_which_the_sdk_warns_of_experimental_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    from azure.ai.ml._utils import _experimental

    @_experimental.experimental
    class Trial:
        def __init__(self) -> None:
            pass

    said: list[str] = []
    monkeypatch.setattr(_experimental.module_logger, "warning", said.append)
    with quiet_sdk():
        Trial()
    assert not said
    Trial()
    assert len(said) == 1  # outside it the SDK speaks as ever


def test_threads_that_are_quiet_at_once_leave_the_sdk_as_it_was() -> None:
    """The one that came second may leave last: it must not give back the silence that it found."""
    from azure.ai.ml._utils import _experimental

    own = _experimental._should_skip_warning
    first, second = quiet_sdk(), quiet_sdk()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert _experimental._should_skip_warning is not own, "the second is still in it"
    second.__exit__(None, None, None)
    assert _experimental._should_skip_warning is own


def test_the_functions_that_make_json() -> None:
    from azure.ai.ml._restclient.arm_ml_service._utils.model_base import SdkJSONEncoder
    from azure.ai.ml.entities import BuildContext, Data, Environment, Model
    from azure.ai.ml.entities._assets import Code
    from azure.ai.ml.entities._job.to_rest_functions import to_rest_job_object

    assert parameters(to_rest_job_object)
    assert "exclude_readonly" in parameters(SdkJSONEncoder.__init__)
    uri = "azureml://datastores/workspaceblobstore/paths/x"
    url = "https://account.blob.core.windows.net/container/x"
    for entity, key, value in (
        (Data(name="n", version="1", type="uri_file", path=uri), "dataUri", uri),
        (Model(name="n", version="1", type="custom_model", path=uri), "modelUri", uri),
        (Code(name="n", version="1", path=url), "codeUri", url),
        (Environment(name="n", version="1", build=BuildContext(path=url)), "build", {"contextUri": url}),
    ):
        made = orjson.loads(orjson.dumps(entity._to_rest_object().as_dict()))["properties"]
        found = made[key]
        assert found == value or value.items() <= found.items(), (key, made)


def test_the_tables_that_name_the_cloud() -> None:
    from azure.ai.ml._azure_environments import (
        _get_aml_resource_id_from_metadata,
        _get_storage_endpoint_from_metadata,
    )
    from azure.ai.ml.constants import _common

    assert _common.AZUREML_CLOUD_ENV_NAME == "AZUREML_CURRENT_CLOUD"
    assert "AzureBlob" in _common.STORAGE_ACCOUNT_URLS
    assert _get_storage_endpoint_from_metadata("AzureCloud") == "core.windows.net"
    assert _get_aml_resource_id_from_metadata("AzureCloud") == "https://ml.azure.com"


def test_a_refused_token_is_dropped_by_the_pipeline() -> None:
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy

    assert "self._token = None" in inspect.getsource(BearerTokenCredentialPolicy.send)


def test_the_account_of_a_failed_chain_has_a_line_each() -> None:
    from azure.identity._credentials.chained import _get_error_message

    class SomeCredential:
        pass

    words = _get_error_message([(SomeCredential(), "not here"), (SomeCredential(), "nor here")])
    assert "\n\tSomeCredential: not here\n\tSomeCredential: nor here" in words


@pytest.mark.parametrize("kind", [MaasMode, MaapMode])
def test_our_job_is_sent_as_the_sdk_itself_would_send_it(
    azure: Azure, shop: Toy, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same body, API version and token header as `MLClient.jobs.create_or_update`, git's properties aside."""
    mode = kind(shop.root)
    plan: Plan = plan_in(shop, mode, azure)
    monkeypatch.setattr("azure.ai.ml.operations._job_operations.get_git_properties", dict)
    seen: list[Any] = []
    original = type(azure.emu).handle

    def handle(emu: Any, request: Any) -> Any:
        if request.method == "PUT" and "/jobs/" in request.path:
            seen.append(request)
        return original(emu, request)

    monkeypatch.setattr(type(azure.emu), "handle", handle)
    run = mode.submit(plan, wait=False)
    code = stage_code(shop.root / "code").folder
    connection = azure.connect()
    folder: Path = run.folder / "parameters"
    write_parameters(plan, folder)
    from azft.azureml.uploads import ensure

    model = str(run.azure["model"])
    assert plan.target is not None
    references = ensure(connection, plan, code=code, parameters=folder)
    references = {**references, plan.target.model_id: model}
    job = build_job(plan, name=run.name, run=run.name, code=code, parameters=folder, references=references)
    connection.client.jobs.create_or_update(job)
    ours, theirs = seen
    assert orjson.loads(ours.body) == orjson.loads(theirs.body)
    assert ours.query["api-version"] == theirs.query["api-version"]
    assert ours.query["api-version"] in _VERSIONS.values()
    assert ("x-azureml-token" in ours.headers) == ("x-azureml-token" in theirs.headers)
    body = job_body(connection, plan, name=run.name, run=run.name, code=code, parameters=folder, references=references)
    assert model in ours.body.decode()
    assert "/versions/" in model
    assert body == orjson.loads(ours.body)
