"""A remote run's outputs: what there is and where, and bringing it here, file by file, so that a cut loses nothing.

Each file is written beside its place as `NAME.part`, goes on from its length after a cut, is checked by size and by the
MD5 where the service has one, and is then renamed. A file that is here already and right is not fetched again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.azureml.resources import Resource, Resources
from azft.azureml.run_outputs import find_output, output_uris, store_path
from azft.azureml.storage import Blob, Storage
from azft.errors import AzftError, NotFoundError
from azft.files import fsync_folder, write_json
from azft.runs import Run

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

OnEvent = Callable[[dict[str, Any]], None]
_PIECE = 8 << 20
"""Bytes fetched at a time; a cut loses no more than one piece."""


@dataclass(frozen=True)
class RemoteOutput:
    """One output of a run's job. `path` is where its files lie in the workspace's blob store, None without files."""

    name: str
    type: str
    path: str | None
    files: int
    bytes: int
    asset: str | None = None
    """`name:version` of the asset that it is, for one that is registered."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def list_outputs(connection: Connection, run: Run) -> list[RemoteOutput]:
    """What the run's job has to give. Raises `NotFoundError` when Azure has no such job."""
    job = _job(connection, run)
    return [_output(connection, run, job, name)[0] for name in output_uris(job) if name != "default"]


def download(
    connection: Connection,
    run: Run,
    names: Iterable[str] = (),
    *,
    folder: Path | None = None,
    on_event: OnEvent = lambda _: None,
) -> dict[str, Path]:
    """Bring outputs here, all of them or the named ones; by default into the run's own folder. Returns their places.

    May be cut off and repeated. Tells {"event": "downloaded", "output", "file", "bytes"} for each file. Raises
    `NotFoundError` for a name that there is not, or whose files don't exist (yet).
    """
    job = _job(connection, run)
    there = [name for name in output_uris(job) if name != "default"]
    wanted = list(names)
    for name in wanted:
        if name not in there:
            raise NotFoundError(f"Run {run.name} has no output `{name}`.", fix=f"There are: {', '.join(there)}.")
    places: dict[str, Path] = {}
    for name in wanted or there:
        output, blobs = _output(connection, run, job, name)
        if output.path is None:
            if name in wanted:
                raise NotFoundError(
                    f"The output `{name}` of run {run.name} has no files yet.", fix="azft status tells."
                )
            continue
        target = (folder or run.folder / "outputs") / name
        for blob in blobs:
            _fetch(connection.storage, blob, target / _below(blob.name, output.path), run, name, on_event)
        places[name] = target
    return places


def _job(connection: Connection, run: Run) -> Resource:
    name = str(run.azure["job"])
    job = Resources(connection).get("job", name)
    if job is None:
        raise NotFoundError(f"Azure has no job {name}.", fix=f"See: azft status {run.name}")
    return job


def _output(connection: Connection, run: Run, job: Resource, name: str) -> tuple[RemoteOutput, list[Blob]]:
    said = output_uris(job)[name]
    asset = said.get("assetName")
    path = find_output(connection, job, name, str(run.azure.get("run") or run.name))
    version = said.get("assetVersion")
    if path is None and asset:
        path, version = _model_path(connection, str(asset), job)
    blobs = connection.storage.list(path) if path else []
    made = RemoteOutput(
        name=name,
        type=str(said.get("jobOutputType") or "uri_folder"),
        path=path if blobs else None,
        files=len(blobs),
        bytes=sum(blob.size for blob in blobs),
        asset=f"{asset}:{version}" if asset and version else asset,
    )
    return made, blobs


def _model_path(connection: Connection, name: str, job: Resource) -> tuple[str | None, str | None]:
    """Where the files of the model lie that a job registered, and its version: the newest that this job made."""
    versions = Resources(connection).all("model", name)
    for model in sorted(versions, key=lambda found: found.created, reverse=True):
        if model.properties.get("jobName") in {None, "", job.name}:
            return store_path(str(model.properties.get("modelUri") or "")), model.name
    return None, None


def _below(blob: str, path: str) -> str:
    """A blob's name below the output's path; the last part when the output is that one file."""
    below = blob.removeprefix(path).lstrip("/") or blob.rpartition("/")[2]
    if ".." in Path(below).parts or Path(below).is_absolute():
        raise AzftError(f"The output has a file with an unsafe name: {below!r}.", fix="Nothing was written for it.")
    return below


def _fetch(storage: Storage, blob: Blob, target: Path, run: Run, output: str, on_event: OnEvent) -> None:
    if target.is_file() and target.stat().st_size == blob.size and _right(target, blob):
        on_event({"event": "download-reused", "run": run.name, "output": output, "file": target.name})
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    note = target.with_name(f"{target.name}.part.json")
    if not _same_version(note, blob):
        part.unlink(missing_ok=True)
        write_json(note, {"etag": blob.etag, "size": blob.size})
    with part.open("ab") as file:
        while (have := file.tell()) < blob.size:
            piece = storage.read(blob.name, have, min(_PIECE, blob.size - have), etag=blob.etag)
            if piece is None or not piece.data:
                raise AzftError(f"{blob.name} went away while it was fetched.", fix="Do the same again.")
            file.write(piece.data)
            file.flush()
    if part.stat().st_size != blob.size or not _right(part, blob):
        part.unlink()
        note.unlink(missing_ok=True)
        raise AzftError(f"{target} arrived damaged, and was thrown away.", fix="Do the same again.")
    part.replace(target)
    note.unlink(missing_ok=True)
    fsync_folder(target.parent)
    on_event({"event": "downloaded", "run": run.name, "output": output, "file": target.name, "bytes": blob.size})


def _right(file: Path, blob: Blob) -> bool:
    """Whether the contents are the blob's, as far as the service lets us know."""
    if blob.md5 is None:
        return True
    with file.open("rb") as source:
        digest = hashlib.file_digest(source, lambda: hashlib.md5(usedforsecurity=False)).digest()
    return digest in {blob.md5, _decoded(blob.md5)}


def _decoded(md5: bytes) -> bytes:
    """Some tools store the MD5 as the bytes of its base64 text."""
    try:
        return base64.b64decode(md5, validate=True)
    except ValueError:
        return b""


def _same_version(note: Path, blob: Blob) -> bool:
    import orjson

    try:
        return bool(orjson.loads(note.read_bytes()).get("etag") == blob.etag)
    except (OSError, ValueError):
        return False
