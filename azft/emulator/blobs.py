"""Blobs as plain files, with what a file cannot hold (metadata, content type, blocks not yet committed) beside them.

A file that a job wrote into its mounted output is a blob like any other. What a blob store can and a folder cannot,
a blob `a` beside a blob `a/b`, is refused, unless `a` is the empty marker of a folder.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

from azft.emulator.storage_access import StorageError

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

KIND = "blob"


@dataclass(frozen=True)
class Blob:
    """One blob, without its content."""

    name: str
    size: int
    etag: str
    modified: float
    content_type: str = "application/octet-stream"
    content_md5: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        """The headers that describe it."""
        found = {
            "ETag": self.etag,
            "Last-Modified": formatdate(self.modified, usegmt=True),
            "Content-Type": self.content_type,
            "Accept-Ranges": "bytes",
            "x-ms-blob-type": "BlockBlob",
            "x-ms-creation-time": formatdate(self.modified, usegmt=True),
            "x-ms-lease-status": "unlocked",
            "x-ms-lease-state": "available",
            "x-ms-server-encrypted": "true",
            "x-ms-access-tier": "Hot",
        }
        if self.content_md5:
            found["Content-MD5"] = self.content_md5
        return found | {f"x-ms-meta-{name}": value for name, value in self.metadata.items()}


class Container:
    """One container of the storage account."""

    def __init__(self, emu: Emulator, account: str, name: str) -> None:
        self._emu, self._account, self._name = emu, account, name
        self._key = f"{account}/{name}/"

    def path(self, name: str) -> Path:
        """Where a blob's content is on disk."""
        return self._emu.blob_path(self._account, self._name, name)

    def find(self, name: str) -> Blob | None:
        """A blob's description, or None."""
        path = self.path(name)
        document = self._emu.state.get(KIND, self._key + name) or {}
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if path.is_dir() and not document.get("folder"):
            return None
        size = 0 if path.is_dir() else found.st_size
        stamp = document.get("version", "")
        etag = hashlib.sha256(f"{found.st_mtime_ns} {size} {stamp}".encode()).hexdigest()[:15].upper()
        return Blob(
            name=name,
            size=size,
            etag=f'"0x{etag}"',
            modified=found.st_mtime,
            content_type=document.get("content_type", "application/octet-stream"),
            content_md5=document.get("content_md5", ""),
            metadata=document.get("metadata", {}),
        )

    def get(self, name: str) -> Blob:
        """A blob's description; raises when it isn't there."""
        found = self.find(name)
        if found is None:
            raise StorageError(404, "BlobNotFound", "The specified blob does not exist.")
        return found

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of a blob that is there."""
        path = self.path(name)
        if path.is_dir():
            return b""
        with path.open("rb") as file:
            file.seek(start)
            return file.read(-1 if length is None else length)

    def put(self, name: str, content: bytes, metadata: Mapping[str, str], content_type: str = "") -> Blob:
        """Write a whole blob, all or nothing."""
        path = self.path(name)
        folder = metadata.get("hdi_isfolder", "").lower() == "true" and not content
        if folder:
            path.mkdir(parents=True, exist_ok=True)
        else:
            if path.is_dir():
                message = "The emulator keeps blobs as files: there are blobs below this name, so it cannot be one."
                raise StorageError(409, "ResourceTypeMismatch", message)
            self._parents(path)
            beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
            beside.write_bytes(content)
            beside.replace(path)
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        self._describe(name, metadata, content_type, digest, folder=folder)
        return self.get(name)

    def set_metadata(self, name: str, metadata: Mapping[str, str]) -> Blob:
        """Replace a blob's metadata; its ETag changes."""
        found = self.get(name)
        folder = self.path(name).is_dir()
        self._describe(name, metadata, found.content_type, found.content_md5, folder=folder)
        return self.get(name)

    def delete(self, name: str) -> None:
        """Remove a blob that is there."""
        self.get(name)
        path = self.path(name)
        self._emu.state.delete(KIND, self._key + name)
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
            return
        path.unlink()

    def names(self, prefix: str) -> Iterator[str]:
        """All blobs whose name begins so, in the order of the service."""
        base = self.path("")
        start = self.path(prefix.rpartition("/")[0])
        markers = {
            key.removeprefix(self._key)
            for key, found in self._emu.state.list(KIND, self._key + prefix)
            if found.get("folder")
        }
        found = [name for name in markers if self.path(name).is_dir()]
        for folder, _, files in os.walk(start):
            relative = Path(folder).relative_to(base).as_posix()
            below = "" if relative == "." else f"{relative}/"
            found += [f"{below}{file}" for file in files if not _hidden(file)]
        yield from sorted(name for name in found if name.startswith(prefix))

    # Blocks of a large blob wait beside the blobs until they are committed.

    def stage(self, name: str, block: str, content: bytes) -> None:
        """Keep a block until the list that names it."""
        folder = self._blocks(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / block.encode().hex()).write_bytes(content)

    def commit(self, name: str, blocks: list[str], metadata: Mapping[str, str], content_type: str) -> Blob:
        """Make the blob out of its blocks."""
        folder = self._blocks(name)
        parts = [folder / block.encode().hex() for block in blocks]
        if not all(part.exists() for part in parts):
            raise StorageError(400, "InvalidBlockList", "The specified block list is invalid.")
        path = self.path(name)
        self._parents(path)
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with beside.open("wb") as file:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file)
        beside.replace(path)
        shutil.rmtree(folder, ignore_errors=True)
        self._describe(name, metadata, content_type, "", folder=False)
        return self.get(name)

    def _blocks(self, name: str) -> Path:
        digest = hashlib.sha256((self._key + name).encode()).hexdigest()
        return self._emu.state.root / "blocks" / digest

    def _parents(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            message = "The emulator keeps blobs as files: a blob stands where this name needs a folder."
            raise StorageError(409, "ResourceTypeMismatch", message) from None

    def _describe(self, name: str, metadata: Mapping[str, str], content_type: str, md5: str, *, folder: bool) -> None:
        document = {
            "metadata": dict(metadata),
            "content_type": content_type or "application/octet-stream",
            "content_md5": md5,
            "folder": folder,
            "version": uuid.uuid4().hex,
        }
        self._emu.state.put(KIND, self._key + name, document)


def _hidden(file: str) -> bool:
    """A file that is being written (`.name.<32 hex digits>`)."""
    stem, _, tail = file.rpartition(".")
    return stem.startswith(".") and len(tail) == 32 and all(digit in "0123456789abcdef" for digit in tail)
