"""The workspace's blob store: putting files there whole or not at all, reading them from an offset, listing them.

A blob appears when its last block is committed, together with its metadata: a cut upload leaves the old blob or none.
The SHA-256 in the metadata says what is in it, so that nothing is sent twice and nothing half is ever taken for whole.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from azft.azureml.errors import MissingRoleError, ServiceError, read
from azft.azureml.patience import call, clock
from azft.errors import AzftError

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

DATASTORE = "workspaceblobstore"
SHA256 = "azft_sha256"
"""The metadata key under which a blob says what it contains."""
_SAS_LIFETIME = 2400.0
"""Seconds after which a signature is asked for anew; Azure gives it for an hour."""
DATASTORE_URI = re.compile(r"(?i)azureml:(?://)?(?:/?subscriptions/.+?)?/?datastores/([^/]+)/paths/(.*)")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob's name, size in bytes, ETag, and MD5 when the service knows it."""

    name: str
    size: int
    etag: str = ""
    md5: bytes | None = None
    sha256: str = ""
    folder: bool = False
    """Whether it only stands for a folder."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a blob from an offset on, and how long the blob was when they were read."""

    data: bytes
    total: int


class Storage:
    """Blobs of the workspace's own datastore."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._lock = threading.RLock()
        self._container: Any = None
        self._until = 0.0
        self._identity = False

    @cached_property
    def datastore(self) -> Any:
        """The datastore as Azure describes it: account, container, kind of credentials. Asks once."""
        return call("Reading the datastore", lambda: self.connection.client.datastores.get(DATASTORE))

    def uri(self, path: str) -> str:
        """The azureml:// address of a path, with the workspace in it."""
        scope = self.connection.workspace
        return (
            f"azureml://subscriptions/{scope.subscription}/resourcegroups/{scope.resource_group}"
            f"/workspaces/{scope.name}/datastores/{DATASTORE}/paths/{path}"
        )

    def url(self, path: str) -> str:
        """The https:// address of a path; without a signature."""
        store = self.datastore
        return f"{self.connection.blob_url(store.account_name)}/{store.container_name}/{path}"

    def path_of(self, uri: str) -> str | None:
        """The path in this store that an address names; None for another store's."""
        if match := DATASTORE_URI.fullmatch(uri):
            return match.group(2) if match.group(1) == DATASTORE else None
        return uri.removeprefix(self.url("")) if uri.startswith(self.url("")) else None

    def put(self, path: str, source: Path | bytes, sha256: str, *, known_missing: bool = False) -> bool:
        """Have a blob with these contents; whether anything was sent. `known_missing` saves the look."""
        if not known_missing:
            there = self.look(path)
            if there is not None and there.sha256 == sha256:
                return False
        options = {"overwrite": True, "metadata": {SHA256: sha256}, "max_concurrency": 4}

        def send(container: Any) -> None:
            client = container.get_blob_client(path)
            if isinstance(source, bytes):
                client.upload_blob(source, **options)
                return
            with source.open("rb") as file:
                client.upload_blob(file, length=source.stat().st_size, **options)

        self._call(f"Uploading {path.rpartition('/')[2]}", send)
        return True

    def look(self, path: str) -> Blob | None:
        """What is known of a blob; None when there is none."""
        found = self._missing(
            lambda container: container.get_blob_client(path).get_blob_properties(), f"Looking for {path}"
        )
        return None if found is None else _blob(found, path)

    def list(self, prefix: str) -> list[Blob]:
        """All blobs below a path, folders aside."""
        start = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        found = self._call(
            f"Listing {prefix}",
            lambda container: list(container.list_blobs(name_starts_with=start, include=["metadata"])),
        )
        blobs = [_blob(item, item.name) for item in found]
        return [blob for blob in blobs if not blob.folder]

    def read(self, path: str, offset: int = 0, length: int | None = None, *, etag: str = "") -> Piece | None:
        """Bytes from an offset on; None when there is no such blob. With an `etag`, of that version or an error."""
        condition: dict[str, Any] = {}
        if etag:
            from azure.core import MatchConditions

            condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified}

        return self._missing(
            lambda container: read_blob(container.get_blob_client(path), offset, length, **condition),
            f"Reading {path}",
        )

    def _missing(self, function: Callable[[Any], Result], what: str) -> Result | None:
        try:
            return self._call(what, function)
        except ServiceError as error:
            if error.answer is not None and error.answer.status == 404:
                return None
            raise

    def _call(self, what: str, function: Callable[[Any], Result]) -> Result:
        """Do something with the container; when its signature is refused, once more with a new one or the identity."""
        for last in (False, True):
            try:
                return call(what, lambda: function(self._open()))
            except MissingRoleError as error:
                if last or not self._another_way(error):
                    raise
        raise AssertionError

    def _another_way(self, error: AzftError) -> bool:
        """Prepare to try again after a refusal; False when there is nothing else to try."""
        with self._lock:
            if self._identity:
                return False
            answer = getattr(error, "answer", None)
            said = "" if answer is None else f"{answer.code} {answer.words}"
            if "KeyBasedAuthentication" in said or "key based" in said.lower():
                self._identity = True
            self._container = None
            return True

    def _open(self) -> Any:
        """The container's client, with a signature that is still good, or by identity."""
        with self._lock:
            if self._container is None or (not self._identity and clock().now() > self._until):
                self._container = self._make()
            return self._container

    def _make(self) -> Any:
        from azure.storage.blob import ContainerClient

        store = self.datastore
        return ContainerClient(
            account_url=self.connection.blob_url(store.account_name),
            container_name=str(store.container_name),
            credential=self._credential(),
            retry_total=0,
            connection_timeout=20,
            read_timeout=120,
        )

    def _credential(self) -> Any:
        """A signature from the workspace, where it has one to give; else the identity that is signed in."""
        from azure.ai.ml.entities import AccountKeyConfiguration, SasTokenConfiguration

        if not isinstance(self.datastore.credentials, (AccountKeyConfiguration, SasTokenConfiguration)):
            self._identity = True
        if not self._identity:
            try:
                secrets = call(
                    "Asking for access to the datastore",
                    lambda: self.connection.client.datastores._list_secrets(DATASTORE, expirable_secret=True),
                )
            except ServiceError as error:
                if error.answer is None or error.answer.unclear:
                    raise
                self._identity = True  # the workspace has nothing to give, or not to us
            else:
                self._until = clock().now() + _SAS_LIFETIME
                given = getattr(secrets, "sas_token", None) or getattr(secrets, "key", None)
                if given:
                    return given
                self._identity = True
        return self.connection.credential


def read_blob(client: Any, offset: int = 0, length: int | None = None, **condition: Any) -> Piece:
    """Bytes of a blob from an offset on. Nothing behind the offset is no error."""
    try:
        stream = client.download_blob(offset=offset, length=length, **condition)
        data = stream.readall()
    except Exception as error:
        answer = read(error)
        if answer is not None and answer.status == 416:
            return Piece(b"", int(client.get_blob_properties().size))
        raise
    total = getattr(stream.properties, "size", None)
    return Piece(data, offset + len(data) if length is None or total is None else int(total))


def folder_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Relative name and path of each file of a folder, in a fixed order."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield file.relative_to(folder).as_posix(), file


def _blob(found: Any, path: str) -> Blob:
    metadata = {str(key).lower(): str(value) for key, value in (found.metadata or {}).items()}
    settings = getattr(found, "content_settings", None)
    md5 = getattr(settings, "content_md5", None)
    return Blob(
        name=path,
        size=int(found.size or 0),
        etag=str(found.etag or ""),
        md5=bytes(md5) if md5 else None,
        sha256=metadata.get(SHA256, ""),
        folder="hdi_isfolder" in metadata,
    )
