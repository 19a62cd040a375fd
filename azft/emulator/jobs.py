"""The jobs of the workspace: PUT, GET, list, cancel, delete.

What a PUT means is told by job_bodies, what happens then by job_states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azft.emulator import compute, job_bodies, job_states, operations, run_documents
from azft.emulator.http import WORKSPACE, ApiError, Request, Response, Route, not_found
from azft.emulator.job_outputs import place_of
from azft.emulator.job_states import JOB
from azft.emulator.state import Document
from azft.emulator.workspace import resource_id, system_data, workspace_guid

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

PAGE = 100
_SERVERLESS = "serverless"
_TYPE = "Microsoft.MachineLearningServices/workspaces/jobs"
_CANCELS = "providers/Microsoft.MachineLearningServices/locations/{location}/mfeOperationResults"


def put_job(emu: Emulator, request: Request) -> Response:
    """PUT: create the job (201), or update what may change of the one that is there (200)."""
    name = request.params["name"]
    properties = job_bodies.read_body(request.json())
    sent = job_bodies.normalised(emu, name, properties)
    with emu.state.transaction():
        stored = emu.state.get(JOB, name)
        if stored is not None:
            return Response(200, _update(emu, stored, sent, request))
        _check_target(emu, properties)
        document: Document = {"name": name, "properties": sent, "created": emu.clock.now(), "modified": emu.clock.now()}
        emu.state.put(JOB, name, document)
        job_states.begin(emu, document)
    return Response(201, job_json(emu, document))


def get_job(emu: Emulator, request: Request) -> Response:
    """GET one job. The run of a pipeline's step is a job without properties: run history tells those."""
    name = request.params["name"]
    child = run_documents.find(emu, name)
    if child is not None and child["parent"] is not None:
        return Response(200, {"id": f"{resource_id(emu)}/jobs/{name}", "name": name, "type": _TYPE, "properties": None})
    return Response(200, job_json(emu, _find(emu, name)))


def list_jobs(emu: Emulator, request: Request) -> Response:
    """GET the jobs, newest first; ?tag=name=value, ?jobType=, ?listViewType=ActiveOnly|ArchivedOnly|All, ?$skip=."""
    view = request.query.get("listViewType", "ActiveOnly").lower()
    tag, _, wanted = request.query.get("tag", "").partition("=")
    kind = request.query.get("jobType", "").lower()
    found = []
    for _, document in reversed(emu.state.list(JOB)):
        properties = document["properties"]
        archived = bool(properties.get("isArchived"))
        if emu.hidden(f"{request.path.rstrip('/')}/{document['name']}"):
            continue
        if (view == "activeonly" and archived) or (view == "archivedonly" and not archived):
            continue
        if kind and properties["jobType"].lower() != kind:
            continue
        if tag and (tag not in properties["tags"] or (wanted and properties["tags"][tag] != wanted)):
            continue
        found.append(document)
    start = int(request.query.get("$skip", "0") or 0)
    page: dict[str, Any] = {"value": [job_json(emu, document) for document in found[start : start + PAGE]]}
    if start + PAGE < len(found):
        joiner = "&" if "?" in request.url else "?"
        page["nextLink"] = f"{request.url.split('&$skip=')[0].split('&%24skip=')[0]}{joiner}$skip={start + PAGE}"
    return Response(200, page)


def cancel_job(emu: Emulator, request: Request) -> Response:
    """POST cancel: 202 and where to ask for its end; 200 for a job that has ended, which stays as it is."""
    name = str(_find(emu, request.params["name"])["name"])
    if _ended(emu, name):
        return Response(200, None)
    job_states.cancel(emu, name)
    base = f"/subscriptions/{emu.settings.subscription}/{_CANCELS.format(location=emu.settings.location)}"
    where = f"{base}/jc:{workspace_guid(emu)}:{name}"
    version = request.query.get("api-version", "")
    headers = {"Location": f"{emu.url}{where}?api-version={version}", "Retry-After": str(operations.POLL_SECONDS)}
    return Response(202, None, headers)


def get_cancel(emu: Emulator, request: Request) -> Response:
    """GET where a cancel sent its client: 202 until the job has ended, then 200."""
    name = str(_find(emu, request.params["operation"].rpartition(":")[2])["name"])
    if _ended(emu, name):
        return Response(200, None)
    return Response(202, None, {"Location": request.url, "Retry-After": str(operations.POLL_SECONDS)})


def _ended(emu: Emulator, name: str) -> bool:
    run = job_states.observe(emu, name)
    return run is None or run["status"] in run_documents.TERMINAL


def delete_job(emu: Emulator, request: Request) -> Response:
    """DELETE a job that has ended."""
    name = request.params["name"]
    if emu.state.get(JOB, name) is None:
        return Response(204)
    if not _ended(emu, name):
        raise ApiError(409, "Conflict", f"Job {name} has not ended; only a job that has ended can be deleted.")
    with emu.state.transaction():
        emu.state.delete(JOB, name)
        run_documents.forget(emu, name)
    return Response(200, None)


ROUTES = (
    Route("GET", WORKSPACE + "/jobs", list_jobs),
    Route("GET", WORKSPACE + "/jobs/{name}", get_job),
    Route("PUT", WORKSPACE + "/jobs/{name}", put_job),
    Route("DELETE", WORKSPACE + "/jobs/{name}", delete_job),
    Route("POST", WORKSPACE + "/jobs/{name}/cancel", cancel_job),
    Route("GET", f"/subscriptions/{{subscription}}/{_CANCELS}/{{operation}}", get_cancel),
)


def job_json(emu: Emulator, document: Document) -> dict[str, Any]:
    """A job as ARM shows it."""
    name = str(document["name"])
    run = job_states.observe(emu, name)
    # What came out is known to run history and to the job's own document alike.
    properties = (emu.state.get(JOB, name) or document)["properties"]
    outputs = dict(properties["outputs"])
    if properties["jobType"] != "FineTuning":
        outputs = {key: _output(emu, name, key, entry) for key, entry in outputs.items()}
    return {
        "id": f"{resource_id(emu)}/jobs/{name}",
        "name": name,
        "type": _TYPE,
        "systemData": system_data(emu, float(document["created"]), float(document["modified"])),
        "properties": {**properties, "outputs": outputs, "status": "NotStarted" if run is None else run["status"]},
    }


def change_job(emu: Emulator, name: str, changes: dict[str, Any]) -> bool:
    """Write what run history's clients change of a job (tags, display name, ...); False when there is no such job."""
    with emu.state.transaction():
        document = emu.state.get(JOB, name)
        if document is None:
            return False
        properties = document["properties"]
        for key, value in changes.items():
            old = properties.get(key)
            properties[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        emu.state.put(JOB, name, {**document, "modified": emu.clock.now()})
    return True


def _output(emu: Emulator, name: str, output: str, entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {**entry, "uri": entry.get("uri") or place_of(emu, None, f"{name}/{output}").uri}


def _update(emu: Emulator, stored: Document, sent: dict[str, Any], request: Request) -> dict[str, Any]:
    name = str(stored["name"])
    differs = emu.faults.active("body-normalised", method=request.method, path=request.path) is not None
    before = {**stored["properties"], "outputs": _as_sent(stored["properties"]["outputs"])}
    if differs or not job_bodies.same_job(before, sent):
        raise job_bodies.already_exists()
    document = {**stored, "modified": emu.clock.now()}
    document["properties"] = {
        **job_bodies.updated(stored["properties"], sent),
        "outputs": stored["properties"]["outputs"],
    }
    emu.state.put(JOB, name, document)
    properties = document["properties"]
    run_documents.change(
        emu, name, tags=properties["tags"], properties=properties["properties"], display_name=properties["displayName"]
    )
    return job_json(emu, document)


def _as_sent(outputs: dict[str, Any]) -> dict[str, Any]:
    """Outputs without what the job's end added to them."""
    return {
        name: {
            key: value
            for key, value in entry.items()
            if not ("assetVersion" in entry and key in {"assetVersion", "uri"})
        }
        for name, entry in outputs.items()
    }


def _find(emu: Emulator, name: str) -> Document:
    document = emu.state.get(JOB, name)
    if document is None:
        raise not_found(f"Job {name}")
    return document


def _check_target(emu: Emulator, properties: dict[str, Any]) -> None:
    """What the service refuses at once: a compute or VM size that isn't there, a model that the region won't train."""
    sizes = {size.name.lower() for size in emu.settings.vm_sizes}
    for wanted in sorted(_instance_types(properties)):
        if wanted.lower() not in sizes:
            raise ApiError(
                400, "UserError", f"The instance type {wanted} is not supported.", "BadArgument/InvalidInstanceType"
            )
    for wanted in sorted(_computes(properties)):
        target = wanted.rsplit("/", 1)[-1]
        if target.lower() != _SERVERLESS and compute.find(emu, target) is None:
            message = f"Unknown compute target '{target}'."
            raise ApiError(400, "UserError", message, "NotFound/ComputeNotFound")
    details = properties.get("fineTuningDetails")
    if details is not None:
        model = str((details.get("model") or {}).get("uri"))
        if emu.faults.take("region-refuses-model", model=model):
            message = (
                f"The model {model} is not supported for fine-tuning in the region {emu.settings.location}. Please see "
                "the documentation for the regions in which it is available."
            )
            raise ApiError(400, "UserError", message, "BadArgument/ModelNotSupportedInRegion")


def _instance_types(properties: dict[str, Any]) -> set[str]:
    own = properties.get("resources") or {}
    given = [*(own.get("instanceTypes") or []), own.get("instanceType")]
    for node in (properties.get("jobs") or {}).values():
        resources = (node.get("resources") or {}) if isinstance(node, dict) else {}
        given.append(resources.get("instance_type") or resources.get("instanceType"))
    return {str(entry) for entry in given if entry}


def _computes(properties: dict[str, Any]) -> set[str]:
    nodes = (properties.get("jobs") or {}).values()
    given = [properties.get("computeId"), (properties.get("settings") or {}).get("default_compute")]
    given += [node.get("computeId") or node.get("compute") for node in nodes if isinstance(node, dict)]
    return {str(entry) for entry in given if entry}
