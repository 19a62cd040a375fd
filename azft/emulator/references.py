"""What a reference stands for: an asset by any of its ids, or a place in the storage account by any address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from azft.emulator import assets
from azft.emulator.assets import WORKSPACE_SCOPE, Asset
from azft.emulator.datastores import CONTAINERS
from azft.emulator.http import ApiError, not_found
from azft.emulator.settings import ACCOUNT
from azft.emulator.workspace import resource_id

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

JOB_OUTPUTS = "job-outputs"
"""State of this kind: job name -> {output: its URI}. Who runs jobs writes it; a job that isn't there has none."""

_PICK = r"(?:/versions/(?P<version>[^/]+)|/labels/(?P<label>[^/]+))"
_ARM = re.compile(
    r"(?:azureml:)?/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.MachineLearningServices/workspaces/[^/]+"
    r"/(?P<kind>\w+)/(?P<name>[^/]+)" + _PICK,
    re.IGNORECASE,
)
_REGISTRY = re.compile(r"azureml://registries/(?P<registry>[^/]+)/(?P<kind>\w+)/(?P<name>[^/]+)" + _PICK, re.IGNORECASE)
_LOCATION = re.compile(
    r"azureml://locations/[^/]+/workspaces/[^/]+/(?P<kind>\w+)/(?P<name>[^/]+)" + _PICK, re.IGNORECASE
)
_SHORT = re.compile(r"azureml:(?P<name>[^/:@]+)(?::(?P<version>[^/:@]+)|@(?P<label>[^/:@]+))")
_DATASTORE = re.compile(r"azureml://(?:.+/)?datastores/(?P<datastore>[^/]+)/paths/(?P<path>.*)", re.IGNORECASE)
_JOB = re.compile(
    r"(?:azureml://jobs|runs:)/(?P<job>[^/]+)/(?:outputs/)?(?P<output>[^/]+)(?:/paths)?(?:/(?P<path>.*))?"
)


def find_asset(emu: Emulator, reference: str, kind: str | None = None) -> Asset | None:
    """The asset of a reference, or None when it is no reference to an asset (a path, say).

    Takes ARM ids, `azureml://registries/...`, `azureml://locations/...`, and, if `kind` is given,
    `azureml:name:version` and `azureml:name@latest`. Raises `ApiError` (404) when it names an asset that isn't there.
    """
    for pattern in (_ARM, _REGISTRY, _LOCATION, _SHORT):
        match = pattern.fullmatch(reference)
        if match is None:
            continue
        found = match.groupdict()
        scope = assets.registry_scope(found["registry"]) if found.get("registry") else WORKSPACE_SCOPE
        what = found.get("kind", kind)
        if what is None or what.lower() not in assets.KINDS:
            continue
        if found["label"] is None:
            return assets.get(emu, scope, what.lower(), found["name"], found["version"])
        if found["label"] != "latest":
            raise not_found(f"Label {found['label']} of {found['name']}")
        return assets.latest(emu, scope, what.lower(), found["name"])
    return None


def folder(emu: Emulator, reference: str, kind: str | None = None) -> Path:
    """The file or folder on this disk that a reference stands for; it need not be there yet.

    Takes datastore and job-output URIs, blob URLs, and whatever `find_asset` takes for codes, data and models.
    Raises `ApiError` for anything else.
    """
    asset = find_asset(emu, reference, kind)
    if asset is not None:
        uri = next((asset.properties[name] for name in _URIS if asset.properties.get(name)), None)
        if uri is None:
            raise ApiError(400, "UserError", f"{reference} has no files.", "BadArgument/ArgumentInvalid")
        return folder(emu, uri)
    if match := _DATASTORE.fullmatch(reference):
        return _datastore(emu, match["datastore"], match["path"])
    if match := _JOB.fullmatch(reference):
        outputs = emu.state.get(JOB_OUTPUTS, match["job"]) or {}
        if match["output"] not in outputs:
            raise not_found(f"Output {match['output']} of job {match['job']}")
        return folder(emu, outputs[match["output"]]) / (match["path"] or "")
    if blob := _blob(reference):
        return emu.blob_path(ACCOUNT, *blob)
    message = f"The reference {reference!r} is to nothing that the emulator keeps."
    raise ApiError(400, "UserError", message, "BadArgument/ArgumentInvalid")


def datastore_uri(emu: Emulator, reference: str) -> str:
    """A reference to a place in a datastore in its long form, as the service writes it; others unchanged."""
    if match := _JOB.fullmatch(reference):
        outputs = emu.state.get(JOB_OUTPUTS, match["job"]) or {}
        if match["output"] not in outputs:
            raise not_found(f"Output {match['output']} of job {match['job']}")
        tail = f"/{match['path']}" if match["path"] else ""
        return datastore_uri(emu, outputs[match["output"]].rstrip("/") + tail)
    if match := _DATASTORE.fullmatch(reference):
        parts = resource_id(emu).split("/")
        base = f"azureml://subscriptions/{parts[2]}/resourcegroups/{parts[4]}/workspaces/{parts[8]}"
        return f"{base}/datastores/{match['datastore']}/paths/{match['path']}"
    return reference


_URIS = ("codeUri", "dataUri", "modelUri")


def _datastore(emu: Emulator, name: str, path: str) -> Path:
    if name not in CONTAINERS:
        raise not_found(f"Datastore {name}")
    return emu.blob_path(ACCOUNT, CONTAINERS[name], path)


def _blob(reference: str) -> tuple[str, str] | None:
    parts = urlsplit(reference)
    if parts.scheme not in {"https", "wasbs", "abfss"}:
        return None
    path = unquote(parts.path).lstrip("/")
    if not parts.netloc.lower().startswith(f"{ACCOUNT}.blob."):
        account, _, rest = path.partition("/")
        if account.split(".")[0].lower() == ACCOUNT:
            path = rest
        elif parts.hostname not in {"127.0.0.1", "localhost"}:
            return None
        # else: azure-ai-ml drops the account from a path-style address when it writes a build context's URI.
    container, _, rest = path.partition("/")
    return container, rest
