"""MLflow's REST as azureml-mlflow speaks it to a workspace: experiments, runs, metrics, params, tags, search.

The runs are those of run history: what a step logs is found under the step's run. As on Azure, there are no logged
models (`/logged-models`), and a run that belongs to a job is ended by the job and by nobody else.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from azft.emulator import job_states, run_artifacts, run_documents, run_metrics
from azft.emulator.http import WORKSPACE, ApiError, Request, Response, Route
from azft.emulator.mlflow_documents import (
    EXPERIMENT,
    MlflowError,
    artifact_uri,
    experiment_json,
    experiments,
    find_run,
    missing,
    run_json,
)
from azft.emulator.mlflow_search import select
from azft.emulator.state import Document

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_MOST_RESULTS = 1000
_FROM_STATUS = {"RUNNING": "Running", "FINISHED": "Completed", "FAILED": "Failed", "KILLED": "Canceled"}


# Experiments


def get_experiment(emu: Emulator, request: Request) -> Response:
    """GET an experiment by its id."""
    wanted = request.query.get("experiment_id", "")
    for name in experiments(emu):
        if run_documents.experiment_id(emu, name) == wanted:
            return Response(200, {"experiment": experiment_json(emu, name)})
    raise missing(f"Experiment {wanted}")


def get_experiment_by_name(emu: Emulator, request: Request) -> Response:
    """GET an experiment by its name."""
    name = request.query.get("experiment_name", "")
    if name not in experiments(emu):
        raise missing(f"Experiment {name}")
    return Response(200, {"experiment": experiment_json(emu, name)})


def create_experiment(emu: Emulator, request: Request) -> Response:
    """POST a new experiment."""
    name = str(request.json().get("name"))
    if name in experiments(emu):
        raise MlflowError(400, "RESOURCE_ALREADY_EXISTS", f"Experiment {name} already exists.")
    emu.state.put(EXPERIMENT, name, {"name": name})
    return Response(200, {"experiment_id": run_documents.experiment_id(emu, name)})


def search_experiments(emu: Emulator, request: Request) -> Response:
    """GET or POST: all experiments."""
    return Response(200, {"experiments": [experiment_json(emu, name) for name in experiments(emu)]})


# Runs


def create_run(emu: Emulator, request: Request) -> Response:
    """POST a run that no job began."""
    body = request.json()
    wanted = str(body.get("experiment_id", ""))
    name = next((name for name in experiments(emu) if run_documents.experiment_id(emu, name) == wanted), None)
    if name is None:
        raise missing(f"Experiment {wanted}")
    tags = {tag["key"]: tag["value"] for tag in body.get("tags") or []}
    run_id = str(uuid.uuid4())
    display_name = str(body.get("run_name") or tags.get("mlflow.runName") or run_id)
    run_documents.create(
        emu, run_id, kind="azureml.MlflowRun", experiment=name, display_name=display_name, status="Running", tags=tags
    )
    run = run_documents.change(emu, run_id, start=emu.clock.now())
    return Response(200, {"run": run_json(emu, run)})


def get_run(emu: Emulator, request: Request) -> Response:
    """GET a run with its newest metrics."""
    return Response(
        200, {"run": run_json(emu, find_run(emu, request.query.get("run_id") or request.query.get("run_uuid")))}
    )


def update_run(emu: Emulator, request: Request) -> Response:
    """POST a run's status or name. A job's run keeps its status: the job decides about that."""
    body = request.json()
    run = find_run(emu, body.get("run_id") or body.get("run_uuid"))
    if body.get("run_name"):
        run = run_documents.change(emu, str(run["id"]), display_name=str(body["run_name"]))
    status = _FROM_STATUS.get(str(body.get("status", "")))
    if status is not None and run["kind"] == "azureml.MlflowRun":
        run = run_documents.set_status(emu, str(run["id"]), status)
    return Response(200, {"run_info": run_json(emu, run)["info"]})


def search_runs(emu: Emulator, request: Request) -> Response:
    """POST: runs of experiments, newest first, filtered."""
    body = request.json()
    wanted = {str(entry) for entry in body.get("experiment_ids") or []}
    runs = []
    for run_id, _ in reversed(emu.state.list(run_documents.KIND)):
        run = job_states.observe(emu, run_id)
        if run is not None and run_documents.experiment_id(emu, str(run["experiment"])) in wanted:
            runs.append(run_json(emu, run))
    try:
        found = select(runs, str(body.get("filter") or ""))
    except ValueError as error:
        raise MlflowError(400, "INVALID_PARAMETER_VALUE", str(error)) from None
    start = int(body.get("page_token") or 0)
    size = min(int(body.get("max_results") or _MOST_RESULTS), _MOST_RESULTS)
    page: dict[str, Any] = {"runs": found[start : start + size]}
    if start + size < len(found):
        page["next_page_token"] = str(start + size)
    return Response(200, page)


# What runs log


def log_metric(emu: Emulator, request: Request) -> Response:
    """POST one point."""
    body = request.json()
    run = find_run(emu, body.get("run_id") or body.get("run_uuid"))
    run_metrics.add(emu, str(run["id"]), [_point(body)])
    return Response(200, {})


def log_parameter(emu: Emulator, request: Request) -> Response:
    """POST one parameter."""
    body = request.json()
    _log_params(emu, find_run(emu, body.get("run_id")), [body])
    return Response(200, {})


def set_tag(emu: Emulator, request: Request) -> Response:
    """POST one tag."""
    body = request.json()
    run = find_run(emu, body.get("run_id"))
    run_documents.change(emu, str(run["id"]), tags={str(body["key"]): str(body["value"])})
    return Response(200, {})


def delete_tag(emu: Emulator, request: Request) -> Response:
    """POST: remove one tag."""
    body = request.json()
    run = find_run(emu, body.get("run_id"))
    if body.get("key") not in run["tags"]:
        raise missing(f"Tag {body.get('key')}")
    kept = {**run, "tags": {key: value for key, value in run["tags"].items() if key != body["key"]}}
    emu.state.put(run_documents.KIND, str(run["id"]), kept)
    return Response(200, {})


def log_batch(emu: Emulator, request: Request) -> Response:
    """POST metrics, params and tags at once; the same for the asynchronous form, which here is done at once."""
    body = request.json()
    run = find_run(emu, body.get("run_id"))
    with emu.state.transaction():
        _log_params(emu, run, body.get("params") or [])
        tags = {str(tag["key"]): str(tag["value"]) for tag in body.get("tags") or []}
        run_documents.change(emu, str(run["id"]), tags=tags)
        run_metrics.add(emu, str(run["id"]), [_point(metric) for metric in body.get("metrics") or []])
    return Response(200, {"batch_tracking_id": ""} if request.path.endswith("-async") else {})


def get_history(emu: Emulator, request: Request) -> Response:
    """GET every point of a metric."""
    run = find_run(emu, request.query.get("run_id") or request.query.get("run_uuid"))
    points = run_metrics.history(emu, str(run["id"]), request.query.get("metric_key", ""))
    start = int(request.query.get("page_token") or 0)
    size = int(request.query.get("max_results") or len(points) or 1)
    page: dict[str, Any] = {"metrics": points[start : start + size]}
    if start + size < len(points):
        page["next_page_token"] = str(start + size)
    return Response(200, page)


def log_inputs(emu: Emulator, request: Request) -> Response:
    """POST datasets that a run read: taken and forgotten."""
    find_run(emu, request.json().get("run_id"))
    return Response(200, {})


def list_artifacts(emu: Emulator, request: Request) -> Response:
    """GET the names of a run's artifacts."""
    run = find_run(emu, request.query.get("run_id"))
    files = [{"path": name, "is_dir": False} for name in run_artifacts.names(emu, str(run["id"]))]
    return Response(200, {"root_uri": artifact_uri(emu, run), "files": files})


def no_logged_models(emu: Emulator, request: Request) -> Response:
    """Azure ML serves no logged models, and says so like this (azure-sdk-for-python#44896)."""
    raise ApiError(404, "UserError", f"Route {request.path} is not found.", "NotFoundError")


def _point(body: dict[str, Any]) -> tuple[str, float, int, int]:
    return str(body["key"]), float(body["value"]), int(body.get("timestamp") or 0), int(body.get("step") or 0)


def _log_params(emu: Emulator, run: Document, params: list[dict[str, Any]]) -> None:
    given = {str(param["key"]): str(param["value"]) for param in params}
    for key, value in given.items():
        if run["params"].get(key, value) != value:
            message = f"Parameter {key} was logged as {run['params'][key]!r} and can't become {value!r}."
            raise MlflowError(400, "INVALID_PARAMETER_VALUE", message)
    run_documents.change(emu, str(run["id"]), params=given)


def _spelled(handler: Callable[[Emulator, Request], Response]) -> Callable[[Emulator, Request], Response]:
    """The handler, a body without what it needs answered in MLflow's words."""

    def checked(emu: Emulator, request: Request) -> Response:
        try:
            return handler(emu, request)
        except (KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
            raise MlflowError(400, "INVALID_PARAMETER_VALUE", f"The request is not well formed: {error}") from None

    return checked


_PATHS: tuple[tuple[str, str, Callable[[Emulator, Request], Response]], ...] = (
    ("GET", "experiments/get", get_experiment),
    ("GET", "experiments/get-by-name", get_experiment_by_name),
    ("POST", "experiments/create", create_experiment),
    ("GET", "experiments/search", search_experiments),
    ("POST", "experiments/search", search_experiments),
    ("POST", "runs/create", create_run),
    ("GET", "runs/get", get_run),
    ("POST", "runs/update", update_run),
    ("POST", "runs/search", search_runs),
    ("POST", "runs/log-metric", log_metric),
    ("POST", "runs/log-parameter", log_parameter),
    ("POST", "runs/set-tag", set_tag),
    ("POST", "runs/delete-tag", delete_tag),
    ("POST", "runs/log-batch", log_batch),
    ("POST", "runs/log-batch-async", log_batch),
    ("POST", "runs/log-inputs", log_inputs),
    ("GET", "metrics/get-history", get_history),
    ("GET", "artifacts/list", list_artifacts),
)
_LOGGED_MODELS = tuple(
    (method, path, no_logged_models)
    for method in ("GET", "POST", "PATCH")
    for path in ("logged-models", "logged-models/{rest:path}")
)
ROUTES = tuple(
    Route(method, f"/mlflow/{version}{WORKSPACE}/api/2.0{preview}/mlflow/{path}", _spelled(handler))
    for version in ("v1.0", "v2.0")
    for preview in ("", "/preview")
    for method, path, handler in (*_PATHS, *_LOGGED_MODELS)
)
