"""Where the outputs of jobs lie, and the names under which run history, the data plane and other jobs find them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from azft.emulator import references, run_documents
from azft.emulator.datastores import CONTAINERS, DEFAULT
from azft.emulator.http import ApiError
from azft.emulator.settings import ACCOUNT
from azft.emulator.workspace import workspace_guid

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_URI = re.compile(r"azureml://(?:.*/)?datastores/(?P<store>[^/]+)/paths/(?P<path>.*)", re.IGNORECASE)
_MODELS = {"mlflow_model": "MLFlowModel", "custom_model": "CustomModel", "triton_model": "TritonModel"}


@dataclass(frozen=True)
class OutputPlace:
    """A place in a datastore: the path below it, and where that is on this machine."""

    store: str
    below: str
    path: Path

    @property
    def uri(self) -> str:
        """The short form of its URI."""
        return f"azureml://datastores/{self.store}/paths/{self.below}"


def place_of(emu: Emulator, given: str | None, where: str) -> OutputPlace:
    """The place that a job gives by a datastore URI, or the workspace's own choice for `where` (`<run>/<output>`).

    Raises `ApiError` for a URI that is no datastore's.
    """
    if given is None:
        return _place(emu, DEFAULT, f"azureml/{where}/")
    return datastore_place(emu, given.replace("${{name}}", where.partition("/")[0]))


def datastore_place(emu: Emulator, uri: str) -> OutputPlace:
    """The place that a datastore URI names."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise ApiError(400, "UserError", f"The path {uri} is not a datastore's.", "BadArgument/InvalidUri")
    return _place(emu, match["store"], unquote(match["path"]))


def _place(emu: Emulator, store: str, below: str) -> OutputPlace:
    if store not in CONTAINERS:
        raise ApiError(400, "UserError", f"Datastore {store} was not found.", "NotFound/DatastoreNotFound")
    return OutputPlace(store, below, emu.blob_path(ACCOUNT, CONTAINERS[store], below))


def record_output(emu: Emulator, run_id: str, name: str, place: OutputPlace, kind: str) -> None:
    """Note an output in its run, once it is written, and where references to a job's outputs look for it."""
    run_documents.change(emu, run_id, outputs={name: {"uri": place.uri, "type": kind}})
    with emu.state.transaction():
        known = emu.state.get(references.JOB_OUTPUTS, run_id) or {}
        emu.state.put(references.JOB_OUTPUTS, run_id, {**known, name: place.uri})


def asset_reference(emu: Emulator, run_id: str, name: str, kind: str) -> dict[str, str]:
    """The output as run history refers to it: an id that the data plane resolves, and a type."""
    base = f"azureml://locations/{emu.settings.location}/workspaces/{workspace_guid(emu)}"
    if kind in _MODELS:
        return {"assetId": f"{base}/models/azureml_{run_id}_output_{name}/versions/1", "type": _MODELS[kind]}
    return {"assetId": f"{base}/data/azureml_{run_id}_output_data_{name}/versions/1", "type": kind}


def resolve_reference(emu: Emulator, asset_id: str) -> tuple[str, str] | None:
    """(long URI, type) of an id that `asset_reference` made, or None."""
    match = re.search(r"/(?:data|models)/azureml_(?P<rest>.+)/versions/1$", asset_id)
    if match is None:
        return None
    for marker in ("_output_data_", "_output_"):
        run_id, found, name = match["rest"].partition(marker)
        run = run_documents.find(emu, run_id) if found else None
        if run is not None and name in run["outputs"]:
            output = run["outputs"][name]
            return references.datastore_uri(emu, str(output["uri"])), str(output["type"])
    return None
