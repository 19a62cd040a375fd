"""The documents behind MLflow's REST: runs and experiments in MLflow's JSON form, and errors in MLflow's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azft.emulator import job_states, run_documents, run_metrics
from azft.emulator.http import ApiError, Response
from azft.emulator.state import Document
from azft.emulator.workspace import resource_id

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

EXPERIMENT = "experiment"
_STATUS = {
    "NotStarted": "SCHEDULED",
    "Queued": "SCHEDULED",
    "Preparing": "SCHEDULED",
    "Running": "RUNNING",
    "CancelRequested": "RUNNING",
    "Completed": "FINISHED",
    "Failed": "FAILED",
    "Canceled": "KILLED",
}


class MlflowError(ApiError):
    """An error in MLflow's form."""

    def response(self) -> Response:
        """The reply that carries it."""
        return Response(self.status, {"error_code": self.code, "message": self.message}, self.headers)


def run_json(emu: Emulator, run: Document) -> dict[str, Any]:
    """A run as MLflow shows it."""

    def milliseconds(name: str) -> int | None:
        return None if run[name] is None else int(float(run[name]) * 1000)

    tags = {**run["tags"], "mlflow.runName": run["display_name"]}
    if run["parent"]:
        tags |= {"mlflow.parentRunId": run["parent"], "mlflow.rootRunId": run["parent"]}
    info = {
        "run_id": run["id"],
        "run_uuid": run["id"],
        "run_name": run["display_name"],
        "experiment_id": run_documents.experiment_id(emu, str(run["experiment"])),
        "user_id": "azft emulator",
        "status": _STATUS[str(run["status"])],
        "start_time": milliseconds("start") or milliseconds("created"),
        "end_time": milliseconds("end"),
        "artifact_uri": artifact_uri(emu, run),
        "lifecycle_stage": "active",
    }
    return {
        "info": {key: value for key, value in info.items() if value is not None},
        "data": {
            "metrics": run_metrics.latest(emu, str(run["id"])),
            "params": [{"key": key, "value": value} for key, value in run["params"].items()],
            "tags": [{"key": key, "value": str(value)} for key, value in tags.items()],
        },
        "inputs": {},
    }


def experiments(emu: Emulator) -> list[str]:
    """The names of all experiments."""
    made = [str(document["name"]) for _, document in emu.state.list(EXPERIMENT)]
    used = [str(document["experiment"]) for _, document in emu.state.list(run_documents.KIND)]
    return list(dict.fromkeys(["Default", *made, *used]))


def experiment_json(emu: Emulator, name: str) -> dict[str, Any]:
    """An experiment as MLflow shows it."""
    experiment = run_documents.experiment_id(emu, name)
    host = emu.url.partition("://")[2]
    location = f"azureml://{host}/mlflow/v2.0{resource_id(emu)}/experiments/{experiment}"
    return {
        "experiment_id": experiment,
        "name": name,
        "artifact_location": location,
        "lifecycle_stage": "active",
        "tags": [],
    }


def artifact_uri(emu: Emulator, run: Document) -> str:
    """Where a run's artifacts are, in the form that azureml-mlflow takes apart."""
    host = emu.url.partition("://")[2]
    return f"azureml://{host}/mlflow/v2.0{resource_id(emu)}/experiments/{run['experiment']}/runs/{run['id']}/artifacts"


def find_run(emu: Emulator, run_id: Any) -> Document:
    """A run as it is now. Raises `MlflowError` (404)."""
    run = job_states.observe(emu, str(run_id))
    if run is None:
        raise missing(f"Run {run_id}")
    return run


def missing(what: str) -> MlflowError:
    """The answer for what is not there."""
    return MlflowError(404, "RESOURCE_DOES_NOT_EXIST", f"{what} was not found.")
