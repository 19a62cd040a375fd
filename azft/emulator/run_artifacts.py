"""Files that runs log as artifacts: places in the artifact store, handed out with a SAS to write or to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azft.emulator import job_states, run_documents, storage_access
from azft.emulator.history import HISTORY
from azft.emulator.http import ApiError, Request, Response, Route
from azft.emulator.settings import ACCOUNT

if TYPE_CHECKING:
    from azft.emulator.app import Emulator


def names(emu: Emulator, run_id: str) -> list[str]:
    """The files of a run, by name."""
    folder = emu.blob_path(ACCOUNT, run_documents.ARTIFACTS, run_documents.artifact_path(run_id, ""))
    if not folder.is_dir():
        return []
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def list_artifacts(emu: Emulator, request: Request) -> Response:
    """GET a run's artifacts."""
    run_id = _run(emu, request)
    found = [_artifact(run_id, name) for name in names(emu, run_id)]
    return Response(200, {"value": found, "continuationToken": None, "nextLink": None})


def get_content(emu: Emulator, request: Request) -> Response:
    """GET where an artifact can be read."""
    run_id, name = _run(emu, request), request.query.get("path", "")
    if name not in names(emu, run_id):
        raise ApiError(404, "UserError", f"Artifact {name} of run {run_id} was not found.", "NotFoundError")
    return Response(200, _content(emu, run_id, name, "r"))


def post_batch(emu: Emulator, request: Request) -> Response:
    """POST batch/metadata: places for artifacts that will be written."""
    run_id = _run(emu, request)
    wanted = [str(entry["path"]) for entry in request.json().get("paths") or []]
    return Response(
        200,
        {
            "artifacts": {name: _artifact(run_id, name) for name in wanted},
            "artifactContentInformation": {name: _content(emu, run_id, name, "racw") for name in wanted},
            "errors": {},
        },
    )


def _run(emu: Emulator, request: Request) -> str:
    run = job_states.observe(emu, request.params["run"])
    if run is None:
        raise ApiError(404, "UserError", f"Run {request.params['run']} was not found.", "NotFoundError/RunNotFound")
    return str(run["id"])


def _artifact(run_id: str, name: str) -> dict[str, Any]:
    container = f"dcid.{run_id}"
    return {
        "artifactId": f"ExperimentRun/{container}/{name}",
        "origin": "ExperimentRun",
        "container": container,
        "path": name,
    }


def _content(emu: Emulator, run_id: str, name: str, permissions: str) -> dict[str, Any]:
    url = storage_access.sas_url(
        emu, run_documents.artifact_path(run_id, name), permissions=permissions, container=run_documents.ARTIFACTS
    )
    return {"contentUri": url, "origin": "ExperimentRun", "container": f"dcid.{run_id}", "path": name}


def _routes() -> tuple[Route, ...]:
    found: list[Route] = []
    for scope in ("/experiments/{experiment}", "/experimentids/{experiment}"):
        base = f"{HISTORY}{scope}/runs/{{run}}/artifacts"
        found += [
            Route("GET", base, list_artifacts),
            Route("GET", f"{base}/contentinfo", get_content),
            Route("POST", f"{base}/batch/metadata", post_batch),
        ]
    return tuple(found)


ROUTES = _routes()
