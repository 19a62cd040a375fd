"""Where the outputs of a job lie in the workspace's blob store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azft.azureml.errors import ServiceError
from azft.azureml.patience import call
from azft.azureml.resources import Resource
from azft.azureml.storage import DATASTORE, DATASTORE_URI

if TYPE_CHECKING:
    from azft.azureml.connection import Connection


def kept_path(job: Resource, output: str, run: str) -> str:
    """The path of an output that azft itself gave a place: from the job, else the place that azft gives it."""
    return _given(job, output) or f"azft/runs/{run}/{output}"


def find_output(connection: Connection, job: Resource, output: str, run: str) -> str | None:
    """The path below which an output's files lie; None when there are none.

    The job's own word first, then the places that azft and Azure use, then what the data plane knows (a step that was
    reused has its output elsewhere).
    """
    tried: list[str | None] = [_given(job, output), f"azft/runs/{run}/{output}", f"azureml/{job.name}/{output}"]
    for path in dict.fromkeys(path for path in tried if path):
        if connection.storage.list(path):
            return path
    uri = _ask(connection, job.name, output)
    elsewhere = store_path(uri) if uri else None
    return elsewhere if elsewhere and connection.storage.list(elsewhere) else None


def output_uris(job: Resource) -> dict[str, dict[str, Any]]:
    """Name -> what the job says of each output: type, and uri or asset name where it knows."""
    details = job.properties.get("outputs") or {}
    return {name: {key: value for key, value in (entry or {}).items() if value} for name, entry in details.items()}


def _given(job: Resource, output: str) -> str | None:
    return store_path(str((output_uris(job).get(output) or {}).get("uri") or ""))


def store_path(uri: str) -> str | None:
    """The path in the workspace's own blob store that an address names; None for any other."""
    match = DATASTORE_URI.fullmatch(uri)
    return match.group(2).rstrip("/") if match and match.group(1) == DATASTORE and "${{" not in uri else None


def _ask(connection: Connection, job: str, output: str) -> str | None:
    """The data plane's word for an output of a job."""
    try:
        found = call(
            "Looking for the job's outputs", lambda: connection.client.jobs._get_named_output_uri(job, [output])
        )
    except ServiceError as error:
        if error.answer is None or error.answer.unclear:
            raise
        return None
    uri = found.get(output)
    return None if uri is None else str(uri)
