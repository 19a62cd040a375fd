"""What a job reads, brought to the workspace: data, parameters, a model's folder, code and environments.

Everything is named by its contents, so whatever is there already is not sent again, by anybody. The files come first,
each whole or not at all; the record that makes them an asset comes last. So an asset that exists is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.azureml.resources import Resources, settled
from azft.azureml.storage import SHA256, folder_files
from azft.catalog.folder import cached_sha256, loaded_files
from azft.errors import AzftError, StalePlanError
from azft.files import sha256_file
from azft.payloads.wire import wire
from azft.plan import Plan, PlannedUpload

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

OnEvent = Callable[[dict[str, Any]], None]

_PLACES = {
    "data": "azft/data/{digest}",
    "model": "azft/models/{digest}",
    "code": "azft/code/{digest}",
    "environment": "azft/environments/{digest}",
}
"""Kind -> its folder in the workspace's blob store. Parameters are named by their whole path."""


def ensure(
    connection: Connection, plan: Plan, *, code: Path | None, parameters: Path, on_event: OnEvent = lambda _: None
) -> dict[str, str]:
    """Bring up whatever isn't there yet; returns what the job calls each upload, by the upload's name.

    `code` is the staged code folder, `parameters` the folder of `azft.pipeline.write_parameters`. Tells of each upload:
    {"event": "uploaded" | "upload-reused", "kind", "name", "bytes"}.
    """
    assert plan.target is not None
    references = {}
    for upload in plan.target.uploads:
        sent = _Upload(connection, plan, upload, code=code, parameters=parameters).ensure()
        references[upload.name] = _reference(connection, upload)
        event = "uploaded" if sent else "upload-reused"
        on_event({"event": event, "kind": upload.kind, "name": upload.name, "bytes": upload.bytes})
    return references


def is_there(connection: Connection, upload: PlannedUpload) -> bool:
    """Whether the workspace has this already."""
    if upload.kind == "parameters":
        found = connection.storage.look(upload.name)
        return found is not None and found.sha256 == upload.sha256
    return Resources(connection).get(upload.kind, upload.name, upload.version) is not None


def _reference(connection: Connection, upload: PlannedUpload) -> str:
    """What the job calls it. Code by its whole id: the SDK takes a short reference to code for a folder."""
    if upload.kind == "code":
        return f"azureml:{connection.workspace.id}/codes/{upload.name}/versions/{upload.version}"
    return upload.reference


class _Upload:
    def __init__(
        self, connection: Connection, plan: Plan, upload: PlannedUpload, *, code: Path | None, parameters: Path
    ) -> None:
        self.connection = connection
        self.storage = connection.storage
        self.plan = plan
        self.upload = upload
        self.code = code
        self.parameters = parameters

    def ensure(self) -> bool:
        """Whether anything was sent."""
        upload, resources = self.upload, Resources(self.connection)
        if upload.kind == "parameters":
            file = self.parameters / upload.name.rpartition("/")[2]
            self._unchanged(file, sha256_file(file) == upload.sha256)
            return self.storage.put(upload.name, file, upload.sha256)
        asset = (upload.kind, upload.name, upload.version)
        if resources.get(*asset) is not None:
            return False
        folder = _PLACES[upload.kind].format(digest=upload.sha256[:32])
        there = {blob.name: blob.sha256 for blob in self.storage.list(folder)}  # of an upload that was cut off
        for name, file in self._files():
            digest = cached_sha256(file)
            self._unchanged(file, upload.path is None or not upload.path.is_file() or digest == upload.sha256)
            if there.get(f"{folder}/{name}") != digest:
                self.storage.put(f"{folder}/{name}", file, digest, known_missing=True)
        # It is named by its contents: whoever made it, it is the same.
        body = wire(self._entity(folder)._to_rest_object())
        settled(resources, *asset, body=body, is_ours=lambda _: True, absent=True)
        return True

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Name below the asset's folder, and where the bytes are."""
        source = self.code if self.upload.kind == "code" else self.upload.path
        if source is None or not source.exists():
            raise StalePlanError(f"{source or self.upload.name} is gone.", fix="Make a new plan.")
        if source.is_file():
            yield source.name, source
        elif source == self.plan.model.path:  # named by what loading reads, so nothing else is sent
            yield from ((file.relative_to(source).as_posix(), file) for file in loaded_files(source))
        else:
            yield from folder_files(source)

    def _unchanged(self, file: Path, same: bool) -> None:
        if not same:
            raise StalePlanError(
                f"{file} changed while the plan was carried out.", fix="Make a new plan, and submit that one."
            )

    def _entity(self, folder: str) -> Any:
        """The SDK's object for the asset's record."""
        from azure.ai.ml.entities import BuildContext, Data, Environment, Model
        from azure.ai.ml.entities._assets import Code

        upload = self.upload
        names = {"name": upload.name, "version": upload.version}
        marks = {SHA256: upload.sha256}
        if upload.kind == "data":
            only = upload.path.name if upload.path is not None and upload.path.is_file() else ""
            kind = "uri_file" if only else "uri_folder"
            return Data(**names, type=kind, path=self.storage.uri(f"{folder}/{only}"), properties=marks)
        if upload.kind == "model":
            assert self.plan.target is not None
            return Model(
                **names, type=self.plan.target.model_type, path=self.storage.uri(f"{folder}/"), properties=marks
            )
        if upload.kind == "code":
            return Code(**names, path=self.storage.url(folder), properties={"hash_sha256": upload.sha256, **marks})
        if upload.kind == "environment":
            context = BuildContext(path=self.storage.url(f"{folder}/"), dockerfile_path="Dockerfile")
            return Environment(**names, build=context, properties=marks)
        raise AzftError(f"azft does not know how to upload a {upload.kind}.", fix="Please report it.")
