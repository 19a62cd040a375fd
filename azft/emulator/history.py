"""Run history and the two data planes beside it, as azure-ai-ml's `jobs.stream`, `get`, `list`, `download` use them.

Runs by id or by experiment, their details with the log files' SAS URLs, their children, what their outputs' ids mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azft.emulator import job_outputs, job_states, jobs, run_documents, storage_access
from azft.emulator.http import WORKSPACE, ApiError, Request, Response, Route
from azft.emulator.state import Document

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

HISTORY = "/history/v1.0" + WORKSPACE
_PAGE = 100


def get_run(emu: Emulator, request: Request) -> Response:
    """GET a run."""
    return Response(200, run_json(emu, _find(emu, request.params["run"])))


def get_details(emu: Emulator, request: Request) -> Response:
    """GET a run's details: its status, error and log files."""
    run = _find(emu, request.params["run"])
    logs = {
        name: storage_access.sas_url(
            emu, run_documents.artifact_path(str(run["id"]), name), container=run_documents.ARTIFACTS
        )
        for name in run["logs"]
    }
    details = run_json(emu, run)
    return Response(
        200,
        {
            **{key: details[key] for key in _IN_DETAILS},
            "createdTimeUtc": details["createdUtc"],
            "logFiles": logs,
            "runDefinition": None,
        },
    )


def get_children(emu: Emulator, request: Request) -> Response:
    """GET a run's children, oldest first."""
    parent = _find(emu, request.params["run"])
    found = [
        job_states.observe(emu, str(child["id"])) or child for child in run_documents.children(emu, str(parent["id"]))
    ]
    start = int(request.query.get("$continuationtoken") or 0)
    most = request.query.get("$top")
    size = int(most or _PAGE)
    page: dict[str, Any] = {"value": [run_json(emu, run) for run in found[start : start + size]]}
    page["continuationToken"] = page["nextLink"] = None
    if start + size < len(found) and most is None:
        page["continuationToken"] = str(start + size)
        page["nextLink"] = f"{request.url.partition('?')[0]}?$continuationtoken={start + size}"
    return Response(200, page)


def post_run_data(emu: Emulator, request: Request) -> Response:
    """POST rundata: a run, with where its outputs are."""
    run = _find(emu, str(request.json().get("runId")))
    return Response(200, {"runMetadata": run_json(emu, run), "runDefinition": None, "jobSpecification": None})


def post_run_data_batch(emu: Emulator, request: Request) -> Response:
    """POST batchrundata: several runs at once."""
    found = {}
    for run_id in request.json().get("runIds") or []:
        run = job_states.observe(emu, str(run_id))
        if run is not None:
            found[str(run_id)] = {"runMetadata": run_json(emu, run)}
    return Response(200, {"runDataResults": found})


def patch_run(emu: Emulator, request: Request) -> Response:
    """PATCH a run: its display name, description, tags, properties, and whether it is hidden."""
    run_id = str(_find(emu, request.params["run"])["id"])
    body = request.json()
    names = {"displayName": "display_name", "description": "description", "tags": "tags", "properties": "properties"}
    given = {key: body[key] for key in names if body.get(key) is not None}
    changes: dict[str, Any] = {key: given[key] for key in given}
    fields: dict[str, Any] = {names[key]: value for key, value in given.items()}
    if body.get("hidden") is not None:
        changes["isArchived"] = fields["hidden"] = bool(body["hidden"])
    with emu.state.transaction():
        jobs.change_job(emu, run_id, changes)
        run = run_documents.change(emu, run_id, **fields)
    return Response(200, run_json(emu, run))


def get_services(emu: Emulator, request: Request) -> Response:
    """GET a run's interactive services: there are none."""
    _find(emu, request.params["run"])
    return Response(200, {"instances": {}})


def post_data_uris(emu: Emulator, request: Request) -> Response:
    """POST batchGetResolvedUris of the data plane for data: where outputs with these ids are."""
    return Response(200, {"values": {key: {"uri": uri, "type": kind} for key, (uri, kind) in _resolved(emu, request)}})


def post_model_uris(emu: Emulator, request: Request) -> Response:
    """POST batchGetResolvedUris of the data plane for models."""
    return Response(200, {"values": {key: {"path": uri, "type": kind} for key, (uri, kind) in _resolved(emu, request)}})


def run_json(emu: Emulator, run: Document) -> dict[str, Any]:
    """A run as run history shows it."""
    clock = emu.clock

    def time(name: str) -> str | None:
        return None if run[name] is None else clock.timestamp(float(run[name]))

    user = {"userObjectId": "00000000-0000-0000-0000-00000000000b", "userName": "azft emulator", "upn": None}
    outputs = {
        name: job_outputs.asset_reference(emu, str(run["id"]), name, str(entry["type"]))
        for name, entry in run["outputs"].items()
    }
    return {
        "runNumber": int(run["created"]),
        "rootRunId": run["parent"] or run["id"],
        "rootRunUuid": run["uuid"],
        "runUuid": run["uuid"],
        "parentRunUuid": None,
        "runId": run["id"],
        "parentRunId": run["parent"],
        "experimentId": run_documents.experiment_id(emu, str(run["experiment"])),
        "experimentName": run["experiment"],
        "status": run["status"],
        "displayName": run["display_name"],
        "name": run["display_name"],
        "description": run.get("description"),
        "createdUtc": clock.timestamp(float(run["created"])),
        "startTimeUtc": time("start"),
        "endTimeUtc": time("end"),
        "lastModifiedUtc": clock.timestamp(float(run["modified"])),
        "createdBy": user,
        "lastModifiedBy": user,
        "userId": user["userObjectId"],
        "error": run["error"],
        "warnings": [{"source": "emulator", "message": message} for message in run["warnings"]] or None,
        "runType": run["kind"],
        "runTypeV2": {"orchestrator": None, "traits": [], "attribution": None, "computeType": "AmlCompute"},
        "properties": run["properties"],
        "parameters": run["params"],
        "tags": run["tags"],
        "hidden": bool(run.get("hidden")),
        "target": run["compute"] or None,
        "services": {},
        "inputs": {},
        "outputs": outputs,
        "inputDatasets": [],
        "outputDatasets": [],
        "settings": {},
        "computeRequest": None,
        "compute": {"target": run["compute"] or "serverless", "targetType": "AmlCompute", "instanceCount": 1},
        "cancelationReason": None,
        "dataContainerId": f"dcid.{run['id']}",
    }


_IN_DETAILS = (
    "runId", "runUuid", "parentRunUuid", "rootRunUuid", "target", "status", "parentRunId", "startTimeUtc", "endTimeUtc",
    "error", "warnings", "tags", "properties", "parameters", "services", "inputDatasets", "outputDatasets", "inputs",
    "outputs", "runTypeV2", "settings", "compute", "createdBy", "runNumber", "rootRunId", "userId", "lastModifiedUtc",
)  # fmt: skip


def _resolved(emu: Emulator, request: Request) -> list[tuple[str, tuple[str, str]]]:
    found = [(str(key), job_outputs.resolve_reference(emu, str(key))) for key in request.json().get("values") or []]
    return [(key, place) for key, place in found if place is not None]


def _find(emu: Emulator, run_id: str) -> Document:
    run = job_states.observe(emu, run_id)
    if run is None:
        raise ApiError(404, "UserError", f"Run {run_id} was not found.", "NotFoundError/RunNotFound")
    return run


def _routes() -> tuple[Route, ...]:
    """Every address of a run: alone, below its experiment's name, below its experiment's id."""
    found: list[Route] = []
    for scope in ("", "/experiments/{experiment}", "/experimentids/{experiment}"):
        base = f"{HISTORY}{scope}/runs/{{run}}"
        found += [
            Route("GET", base, get_run),
            Route("PATCH", base, patch_run),
            Route("GET", f"{base}/details", get_details),
            Route("GET", f"{base}/children", get_children),
            Route("GET", f"{base}/serviceinstances/{{node}}", get_services),
        ]
    return tuple(found)


ROUTES = (
    *_routes(),
    Route("POST", HISTORY + "/rundata", post_run_data),
    Route("POST", HISTORY + "/batchrundata", post_run_data_batch),
    Route("POST", "/data/v1.0" + WORKSPACE + "/dataversion/batchGetResolvedUris", post_data_uris),
    Route("POST", "/modelregistry/v1.0" + WORKSPACE + "/models/batchGetResolvedUris", post_model_uris),
)
