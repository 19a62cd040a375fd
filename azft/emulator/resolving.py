"""What the references of a job stand for, looked up among the stored assets, for the reader of the wire form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.emulator import assets, references
from azft.emulator.http import ApiError
from azft.execution.graph import GraphError

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_MODEL_TYPES = frozenset({"mlflow_model", "custom_model", "triton_model"})


class StoredAssets:
    """The emulator's assets behind `wire_node.Assets`."""

    def __init__(self, emu: Emulator) -> None:
        self._emu = emu

    def component(self, reference: str) -> Mapping[str, Any]:
        """See `wire_node.Assets`."""
        try:
            asset = references.find_asset(self._emu, reference, "components")
        except ApiError as error:
            raise GraphError(error.message) from None
        if asset is None:
            raise GraphError(f"{reference} is no component.")
        spec: Mapping[str, Any] = asset.properties["componentSpec"]
        kind = spec.get("type", "command")
        if {"command": "command", "pipeline": "jobs"}.get(kind) not in spec:
            raise GraphError(
                f"Component {reference} is of type {kind}; the emulator runs command and pipeline components."
            )
        return spec

    def code(self, reference: str) -> Path:
        """See `wire_node.Assets`."""
        return self._existing(reference, "codes")

    def data(self, reference: str, kind: str) -> Path:
        """See `wire_node.Assets`."""
        return self._existing(reference, "models" if kind in _MODEL_TYPES else "data")

    def environment_problem(self, reference: str) -> str | None:
        """Why an environment of the workspace can't be built: it, or its build folder, isn't there. None when it can.

        Registries' environments are taken as given.
        """
        if not reference or reference.startswith("azureml://registries/"):
            return None
        try:
            asset = references.find_asset(self._emu, reference, "environments")
            if asset is None:
                return f"{reference} is no environment."
            build = asset.properties.get("build")
            if not build:
                return None
            file = str(build.get("dockerfilePath") or "Dockerfile")
            folder = references.folder(self._emu, str(build["contextUri"]))
        except ApiError as error:
            return error.message
        if (folder / file).is_file():
            return None
        return f"Image build failed: there is no {file} in {build['contextUri']}."

    def _existing(self, reference: str, kind: str) -> Path:
        try:
            path = references.folder(self._emu, reference, kind)
        except ApiError as error:
            raise GraphError(error.message) from None
        if not path.exists():
            raise GraphError(f"There is nothing at {reference}.")
        return path


def register_model(emu: Emulator, name: str, *, uri: str, kind: str, job: str, tags: Mapping[str, str]) -> str:
    """Register a job's model as the next version of a name; returns the version. The same job's model only once."""
    with emu.state.transaction():
        for asset in assets.versions(emu, assets.WORKSPACE_SCOPE, "models", name):
            if asset.properties.get("jobName") == job:
                return asset.version
        version = assets.next_version(emu, assets.WORKSPACE_SCOPE, "models", name)
        properties = {
            "modelUri": references.datastore_uri(emu, uri),
            "modelType": kind,
            "jobName": job,
            "tags": dict(tags),
            "flavors": {"hftransformersv2": {"data": {}}} if kind == "mlflow_model" else {},
        }
        assets.create(emu, assets.WORKSPACE_SCOPE, "models", name, version, properties)
    return version
