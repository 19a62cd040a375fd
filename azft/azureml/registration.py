"""From a run's result to a model in the workspace: found where the service registered it, or registered by azft, once.

A version that azft makes is named after the plan (`dialog-summaries:3f2a91c0`), so that registering twice, or from two
shells at once, gives the same version and never a second one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.azureml.errors import MissingResourceError
from azft.azureml.resources import Resource, Resources, settled
from azft.azureml.storage import folder_files
from azft.catalog.folder import cached_sha256
from azft.data.model_folder import has_model
from azft.errors import AzftError, JobFailedError, NotFoundError, UsageError
from azft.files import sha256_tree
from azft.payloads.wire import wire
from azft.pipeline import quiet_sdk
from azft.runs import Run, RunState
from azft.tags import labels

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

OnEvent = Callable[[dict[str, Any]], None]

OUTPUTS = ("registered_model", "mlflow_model_folder", "trained_model", "packaged")
"""Names of a job's output that is the model, the first that is there; the service registers the first one itself."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,254}")
_MLFLOW = "mlflow_model"
_CUSTOM = "custom_model"


@dataclass(frozen=True)
class RegisteredModel:
    """A model of the workspace. `id` is its ARM id, `type` mlflow_model or custom_model."""

    name: str
    version: str
    type: str
    id: str
    asset: str
    """As endpoints of the serverless kind want it: azureml://locations/<region>/workspaces/<guid>/models/..."""
    run: str
    created: bool
    """Whether this call registered it; False when it was there."""
    registered_by: str
    """azft, or the service."""

    @property
    def reference(self) -> str:
        """As `name:version`."""
        return f"{self.name}:{self.version}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "reference": self.reference}


def register(
    connection: Connection, run: Run, *, name: str | None = None, on_event: OnEvent | None = None
) -> RegisteredModel:
    """The run's model in the workspace, registered when it isn't yet. `name` replaces the recipe's model name.

    Raises `JobFailedError` for a run that did not complete, `NotFoundError` when it has no model, `UsageError` for a
    name that Azure does not take.
    """
    tell = on_event or (lambda _: None)
    plan = run.plan
    require_completed(run)
    resources = Resources(connection)
    wanted = name or (plan["recipe"].get("output") or {}).get("model_name") or plan["name"]
    if not _NAME.fullmatch(wanted):
        raise UsageError(f"`{wanted}` is no name for a model in Azure.", fix="Letters, digits, - _ and . only.")
    for model in _versions(resources, wanted):
        if model.is_of(run.name, plan["hash"]):
            return _registered(resources, model, run, created=False, by=_maker(model))
    if plan.get("target") is None:
        path, kind = _local_folder(run), _CUSTOM
        tell({"event": "uploading-model", "run": run.name, "path": str(path)})
        return _create(connection, resources, run, wanted, path=path, kind=kind)
    job = job_of(run)
    output, found = _model_output(resources, run, job)
    if output == "registered_model":
        if name is not None and name != found.get("assetName", name):
            raise UsageError(
                f"The service registered the model of {run.name} as {found['assetName']}; that can't be renamed.",
                fix="Leave out --name, or set output.model_name in the recipe and submit again.",
            )
        return _service_registered(resources, run, job, str(found.get("assetName") or wanted), found)
    kind = str(found.get("jobOutputType") or "") if found.get("jobOutputType") in {_MLFLOW, _CUSTOM} else _CUSTOM
    return _create(connection, resources, run, wanted, path=f"azureml://jobs/{job}/outputs/{output}", kind=kind)


def job_of(run: Run) -> str:
    """The name of the Azure job behind a run. Raises `NotFoundError` when the run never got that far."""
    if not run.remote:
        raise NotFoundError(f"Run {run.name} has no job in Azure.", fix=f"See what it is: azft status {run.name}")
    return str(run.azure["job"])


def version_of(run: Run) -> str:
    """The model version of a run: what is behind the recipe's name in the run's name."""
    return run.name.removeprefix(f"{run.plan['name']}-")


def require_completed(run: Run) -> None:
    """Raise `JobFailedError` for a run that has no model: not yet, or not any more."""
    state = run.state
    if state is RunState.COMPLETED:
        return
    if state.active:
        raise JobFailedError(
            f"Run {run.name} is not done ({state}).", fix=f"Wait for it: azft logs {run.name} --follow"
        )
    raise JobFailedError(f"Run {run.name} has no model: it ended as {state}.", fix=f"Why: azft status {run.name}")


def _local_folder(run: Run) -> Path:
    folder = run.outputs().get("packaged")
    if folder is None or not (has_model(folder) or (folder / "adapter").exists()):
        raise NotFoundError(f"Run {run.name} has no packaged model.", fix=f"See what it has: azft status {run.name}")
    return folder


def _model_output(resources: Resources, run: Run, job: str) -> tuple[str, dict[str, Any]]:
    found = resources.get("job", job)
    if found is None:
        raise NotFoundError(
            f"The job {job} of run {run.name} is not in the workspace {resources.connection.workspace.name}.",
            fix="Name the workspace that it ran in: --workspace, --resource-group, --subscription.",
        )
    outputs = found.properties.get("outputs") or {}
    for output in OUTPUTS:
        if output in outputs:
            return output, outputs[output] or {}
    raise NotFoundError(
        f"The job {job} has no model among its outputs ({', '.join(outputs) or 'none'}).",
        fix="Look at the job in Azure ML's studio.",
    )


def _versions(resources: Resources, name: str) -> list[Resource]:
    """All versions of a model; none of a name that nothing is registered under."""
    try:
        return resources.all("model", name)
    except MissingResourceError:
        resources.workspace()  # tells a model that isn't there from a workspace that isn't
        return []


def _service_registered(resources: Resources, run: Run, job: str, name: str, output: dict[str, Any]) -> RegisteredModel:
    """The version that the fine-tuning service registered for the job: the one that says so, never just the newest."""
    version = str(output.get("assetVersion") or "")
    if version and (model := resources.get("model", name, version)) is not None:
        return _registered(resources, model, run, created=False, by="the service")
    candidates = [model for model in _versions(resources, name) if _names(model, job, str(output.get("uri") or ""))]
    if len(candidates) == 1:
        return _registered(resources, candidates[0], run, created=False, by="the service")
    if not candidates:
        raise NotFoundError(
            f"The job {job} completed, but its model {name} is not in the workspace (yet).",
            fix=f"Try again in a minute: azft register {run.name}",
        )
    raise AzftError(
        f"{len(candidates)} versions of {name} say that the job {job} made them.",
        fix="Look at them in Azure ML's studio, and archive what is not the job's.",
    )


def _maker(model: Resource) -> str:
    """Who registered it: the service passes the job's tags on, and says which job it was."""
    return "the service" if model.properties.get("jobName") else "azft"


def _names(model: Resource, job: str, uri: str) -> bool:
    """Whether a version says that it is a job's: by its jobName, its labels, or the place of its files."""
    properties = model.properties
    place = str(properties.get("modelUri") or "")
    return (
        properties.get("jobName") == job
        or job in model.marks.values()
        or re.search(rf"[/.]{re.escape(job)}(?:[/.]|$)", place) is not None
        or (bool(uri) and place.rstrip("/") == uri.rstrip("/"))
    )


def _create(
    connection: Connection, resources: Resources, run: Run, name: str, *, path: Path | str, kind: str
) -> RegisteredModel:
    """Register a version named after the run. Files on this machine are uploaded first, and only what isn't there."""
    version = version_of(run)
    if isinstance(path, Path):
        path = _upload(connection, path)
    with quiet_sdk():
        from azure.ai.ml.entities import Model

        model = Model(
            name=name,
            version=version,
            path=path,
            type=kind,
            description=run.plan["recipe"].get("description") or None,
            tags=labels(run.plan["hash"], run.name),
            properties=labels(run.plan["hash"], run.name),
        )
        body = wire(model._to_rest_object())
    accepted, created = settled(
        resources,
        "model",
        name,
        version,
        body=body,
        is_ours=lambda found: found.is_of(run.name, run.plan["hash"]),
    )
    return _registered(resources, accepted.resource, run, created=created, by="azft")


def _upload(connection: Connection, folder: Path) -> str:
    """Bring a model's folder to the workspace's blob store, at a place named by its contents; returns the address."""
    place = f"azft/models/{sha256_tree(folder)[:32]}"
    for name, file in folder_files(folder):
        connection.storage.put(f"{place}/{name}", file, cached_sha256(file))
    return connection.storage.uri(f"{place}/")


def _registered(resources: Resources, model: Resource, run: Run, *, created: bool, by: str) -> RegisteredModel:
    name, version = model.names
    workspace = resources.workspace()
    guid = (workspace.get("properties") or {}).get("workspaceId") or ""
    return RegisteredModel(
        name=name,
        version=version,
        type=str(model.properties.get("modelType") or _CUSTOM),
        id=model.id,
        asset=f"azureml://locations/{workspace.get('location')}/workspaces/{guid}/models/{name}/versions/{version}",
        run=run.name,
        created=created,
        registered_by=by,
    )
