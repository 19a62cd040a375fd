"""Not doing a step twice: what decides that two steps are the same, and taking over the outputs of an earlier one.

A step's key covers its command template, code, literals, environment, ranks, and the *contents* of all that it reads. A
key is worth nothing without outputs that are still what they were: every file is hashed again before it is taken over.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from azft.execution.graph import Literal, Step
from azft.files import atomic_path, canonical_json, sha256_bytes, sha256_file, write_json

_FORMAT = 1
_LINKED_FROM = 1 << 20
"""Bytes from which on a reused file is linked instead of copied."""


def step_key(step: Step, *, code: str, inputs: Mapping[str, Literal | None], contents: Mapping[str, str]) -> str:
    """Hash of everything that decides what a step writes.

    `code` is the code folder's hash; `inputs` the literals after defaults; `contents` the hash of each path input.
    """
    return sha256_bytes(
        canonical_json(
            {
                "format": _FORMAT,
                "command": step.command,
                "code": code,
                "environment": step.environment,
                "variables": dict(step.variables),
                "processes": step.processes,
                "inputs": {name: None if value is None else str(value) for name, value in inputs.items()},
                "contents": dict(contents),
                "outputs": {name: spec.type for name, spec in step.outputs.items()},
            }
        )
    )


@dataclass(frozen=True, slots=True)
class Manifest:
    """Every file of a step's outputs: output -> relative name (empty when the output is a file) -> [bytes, sha256]."""

    files: Mapping[str, Mapping[str, tuple[int, str]]]

    @classmethod
    def of(cls, outputs: Mapping[str, Path]) -> Manifest:
        """Hash what lies at each output's path."""
        return cls(
            {
                name: {rel: (file.stat().st_size, sha256_file(file)) for rel, file in _files(path)}
                for name, path in outputs.items()
            }
        )

    def content(self, output: str) -> str:
        """One hash for an output's contents."""
        return sha256_bytes(canonical_json({name: digest for name, (_, digest) in self.files[output].items()}))

    def damaged(self, outputs: Mapping[str, Path]) -> set[str]:
        """The outputs that are not exactly what was recorded: changed, added to, or with something missing."""
        return {name for name, path in outputs.items() if not _intact(path, self.files.get(name))}

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {name: {rel: list(entry) for rel, entry in files.items()} for name, files in self.files.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, Any]]) -> Manifest:
        """Read `to_dict`'s form back."""
        return cls(
            {
                name: {rel: (int(size), str(digest)) for rel, (size, digest) in files.items()}
                for name, files in data.items()
            }
        )


@dataclass(frozen=True, slots=True)
class Finished:
    """A step that ended well: its key, where its outputs lie and what they are."""

    key: str
    outputs: Mapping[str, Path]
    manifest: Manifest


def write_finished(file: Path, finished: Finished) -> None:
    """Record a finished step."""
    write_json(
        file,
        {
            "format": _FORMAT,
            "key": finished.key,
            "outputs": {name: str(path) for name, path in finished.outputs.items()},
            "files": finished.manifest.to_dict(),
        },
    )


def read_finished(file: Path, key: str) -> Finished | None:
    """A recorded step with this key; None when there is none or the record is broken. Its outputs are not looked at."""
    try:
        data = orjson.loads(file.read_bytes())
        if data["format"] != _FORMAT or data["key"] != key:
            return None
        return Finished(
            key=key,
            outputs={name: Path(path) for name, path in data["outputs"].items()},
            manifest=Manifest.from_dict(data["files"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def take_over(finished: Finished, outputs: Mapping[str, Path]) -> None:
    """Make an earlier step's outputs appear at `outputs`, so that each run's folder stands alone.

    Large files (weights) are hard links where the disk allows: they cost no room and are never written in place. Small
    ones are copies, because people edit them and logs are appended to.
    """
    for name, target in outputs.items():
        source = finished.outputs[name]
        remove(target)  # a folder replaces only an empty one; what lay here belongs to no finished step
        with atomic_path(target) as temporary:
            if source.is_file():
                _link(source, temporary)
            else:
                temporary.mkdir()
                for rel, file in _files(source):
                    (temporary / rel).parent.mkdir(parents=True, exist_ok=True)
                    _link(file, temporary / rel)


def remove(path: Path) -> None:
    """Remove a file or a folder with all in it; what isn't there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(path: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [("", path)]
    return [(file.relative_to(path).as_posix(), file) for file in sorted(path.rglob("*")) if file.is_file()]


def _intact(path: Path, recorded: Mapping[str, tuple[int, str]] | None) -> bool:
    found = dict(_files(path))
    if recorded is None or found.keys() != recorded.keys():
        return False
    # Sizes first: hashing takes longer.
    return all(found[rel].stat().st_size == size for rel, (size, _) in recorded.items()) and all(
        sha256_file(found[rel]) == digest for rel, (_, digest) in recorded.items()
    )


def _link(source: Path, target: Path) -> None:
    if source.stat().st_size >= _LINKED_FROM:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)
