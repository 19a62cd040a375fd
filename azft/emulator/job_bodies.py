"""A job's body: what the service fills in, what may change afterwards, and whether a second PUT is the same job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from azft.emulator.http import ApiError
from azft.emulator.workspace import resource_id

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

Json = dict[str, Any]

MUTABLE = ("description", "tags", "displayName", "properties", "isArchived")
_SERVICE = ("status", "services", "notificationSetting", "parentJobName")
"""What the service writes; in a request it means nothing."""
_TYPES = {"pipeline": "Pipeline", "command": "Command", "finetuning": "FineTuning"}


def read_body(body: Any) -> Json:
    """The properties of a job's PUT, checked for their form."""
    properties = body.get("properties") if isinstance(body, dict) else None
    if not isinstance(properties, dict):
        raise _bad("The request body has no properties.")
    kind = _TYPES.get(str(properties.get("jobType", "")).lower())
    if kind is None:
        raise ApiError(501, "NotEmulated", f"The emulator does not cover jobs of type {properties.get('jobType')!r}.")
    if kind == "Pipeline" and not (properties.get("jobs") or properties.get("componentId")):
        raise _bad("A pipeline job must have at least one node.")
    if kind == "Command":
        for name in ("command", "environmentId"):
            if not properties.get(name):
                raise _bad(f"The field {name} is required.")
    if kind == "FineTuning":
        details = properties.get("fineTuningDetails")
        for name in ("taskType", "model", "trainingData"):
            if not isinstance(details, dict) or not details.get(name):
                raise _bad(f"The field fineTuningDetails.{name} is required.")
    return {**properties, "jobType": kind}


def normalised(emu: Emulator, name: str, properties: Json) -> Json:
    """The body as the service keeps it: defaults filled in, nothing null, services attached."""
    kept = _without_nulls({key: value for key, value in properties.items() if key not in _SERVICE})
    studio = f"{emu.url}/runs/{name}?wsid={resource_id(emu)}"  # leads nowhere, and not to the real studio
    tracking = f"azureml://{emu.url.partition('://')[2]}/mlflow/v1.0{resource_id(emu)}?"
    return {
        "displayName": name,
        "experimentName": "Default",
        "description": None,
        "tags": {},
        "properties": {},
        "inputs": {},
        "outputs": {},
        "isArchived": False,
        "computeId": None,
        "identity": None,
        **kept,
        "services": {
            "Tracking": {"jobServiceType": "Tracking", "endpoint": tracking, "port": None, "status": None},
            "Studio": {"jobServiceType": "Studio", "endpoint": studio, "port": None, "status": None},
        },
    }


def same_job(stored: Json, sent: Json) -> bool:
    """Whether two normalised bodies are one job: equal in all that may not change."""
    return _fixed(stored) == _fixed(sent)


def updated(stored: Json, sent: Json) -> Json:
    """The stored body with the sent one's changes. Properties that are there can't get another value."""
    for key, value in (sent.get("properties") or {}).items():
        if stored["properties"].get(key, value) != value:
            raise already_exists(f"The property {key} of a job is immutable.")
    changed = {name: sent[name] for name in MUTABLE if sent.get(name) is not None and name != "properties"}
    return {**stored, **changed, "properties": {**stored["properties"], **(sent.get("properties") or {})}}


def already_exists(detail: str = "") -> ApiError:
    """The answer to a PUT of another job under a name that is taken."""
    message = (
        "A job with this name already exists. If you are trying to submit a new job, use a different name. If you are "
        "trying to update an existing job, the existing job's configuration cannot be changed. Only description, tags, "
        "displayName, properties, and isArchived can be updated."
    )
    return ApiError(400, "UserError", f"{message} {detail}".strip(), "Immutable/JobPropertyImmutable")


def _fixed(body: Json) -> str:
    fixed = {key: value for key, value in body.items() if key not in MUTABLE and key not in _SERVICE}
    return json.dumps(_without_nulls(fixed), sort_keys=True)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list):
        return [_without_nulls(entry) for entry in value]
    return value


def _bad(message: str) -> ApiError:
    return ApiError(400, "UserError", message, "BadArgument/InvalidParameter")
