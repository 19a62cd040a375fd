"""What Azure must have before a job starts, named by contents: the same bytes are the same asset and are sent once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from azft.catalog.folder import folder_identity, loaded_files
from azft.files import sha256_bytes, sha256_tree
from azft.plan import PlannedInput, PlannedStep, PlannedUpload, UploadKind
from azft.staging import code_files, code_hash, environment_folder

NAME_CHARACTERS = 32
"""How much of a content hash is in an asset's name: 128 bits."""


def data_name(entry: PlannedInput) -> str:
    """The data asset of a file. The suffix decides how the bytes are read, so another one is another asset."""
    suffix = entry.path.suffix.casefold().removeprefix(".")
    return f"azft-data-{entry.sha256[:NAME_CHARACTERS]}" + ("" if suffix in ("", "jsonl") else f"-{suffix}")


def data_uploads(inputs: Iterable[PlannedInput]) -> list[PlannedUpload]:
    """One asset a file; two roles with the same bytes share it."""
    uploads = {
        data_name(entry): PlannedUpload(
            kind="data", name=data_name(entry), path=entry.path, bytes=entry.bytes, sha256=entry.sha256
        )
        for entry in inputs
    }
    return list(uploads.values())


def folder_upload(kind: UploadKind, stem: str, folder: Path, files: Sequence[Path], digest: str) -> PlannedUpload:
    """A folder as an asset: its name is `stem` and the start of `digest`, the hash of the `files` that travel."""
    return PlannedUpload(
        kind=kind,
        name=f"{stem}-{digest[:NAME_CHARACTERS]}",
        path=folder,
        bytes=sum(file.stat().st_size for file in files),
        files=len(files),
        sha256=digest,
    )


def model_upload(folder: Path) -> PlannedUpload:
    """A model folder as an asset: the files that loading reads, and no others."""
    return folder_upload("model", "azft-model", folder, loaded_files(folder), folder_identity(folder))


def own_uploads(steps: Iterable[PlannedStep]) -> list[PlannedUpload]:
    """What azft's own pipeline needs besides data and model: parameters, code and the environments' build folders."""
    steps = tuple(steps)
    uploads = []
    for step in steps:
        content = step.parameters_json()
        digest = sha256_bytes(content)
        name = f"azft/parameters/{digest[:NAME_CHARACTERS]}/{step.name}.json"
        uploads.append(PlannedUpload(kind="parameters", name=name, version="", bytes=len(content), sha256=digest))
    files = code_files()
    digest = code_hash(files)
    uploads.append(
        PlannedUpload(
            kind="code",
            name=f"azft-code-{digest[:NAME_CHARACTERS]}",
            bytes=sum(map(len, files.values())),
            files=len(files),
            sha256=digest,
        )
    )
    for folder in dict.fromkeys(environment_folder(step.name) for step in steps):
        contents = [file for file in folder.rglob("*") if file.is_file()]
        uploads.append(folder_upload("environment", f"azft-{folder.name}", folder, contents, sha256_tree(folder)))
    return uploads
