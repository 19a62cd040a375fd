"""Checkpoints: folders that are whole or absent, know their own hashes, and are only ever tensors and JSON.

    step-00000120/
      manifest.json         format, step, what it belongs to, and size and SHA-256 of every other file
      weights.safetensors   the weights that move; where they are large, weights-2.safetensors and so on besides
      optimizer.safetensors
      random.safetensors    the state of every rank's random numbers
      state.json            counters of the loop

Written beside and renamed, so that a crash leaves the old ones; verified before use, so that a damaged one is passed
over for the one before it. What the tensors mean is `azft.training.snapshot`'s.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from safetensors import safe_open
from safetensors.torch import save_file

from azft.errors import UsageError
from azft.files import atomic_path, canonical_json, sha256_bytes, sha256_file, write_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
_NAME = re.compile(r"step-(\d{8,})")


class _Tensors(Mapping[str, "Tensor"]):
    """The tensors of some files, by name; of a large checkpoint, every rank reads only one at a time."""

    def __init__(self, files: Iterable[Path]) -> None:
        opened: list[Any] = [safe_open(file, framework="pt") for file in sorted(files)]
        self._files: dict[str, Any] = {name: file for file in opened for name in file.keys()}  # noqa: SIM118 - not a mapping

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._files[name].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was verified: its step, its loop state, and its tensors on demand."""

    folder: Path
    step: int
    state: dict[str, Any]

    def tensors(self, name: str) -> Mapping[str, Tensor]:
        """The tensors called `weights`, `optimizer` or `random`, on the CPU; each is read when it is asked for."""
        return _Tensors([f for f in self.folder.glob("*.safetensors") if f.stem.partition("-")[0] == name])


class CheckpointFolder:
    """The checkpoints of one run.

    `identity` says what they belong to (hashes of parameters, dataset and model, by name); `problems` collects what was
    found damaged, for a person to read.
    """

    def __init__(self, root: Path, *, identity: Mapping[str, str], keep: int) -> None:
        self.root = root
        self.identity = dict(identity)
        self.keep = keep
        self.problems: list[str] = []

    def clean(self) -> None:
        """Remove what a killed process left half-written."""
        self.root.mkdir(parents=True, exist_ok=True)
        for leftover in self.root.glob(".step-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, damaged or not, ascending."""
        matches = [_NAME.fullmatch(path.name) for path in self.root.glob("step-*")]
        return sorted(int(match[1]) for match in matches if match)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.root / f"step-{step:08d}"

    def save(self, step: int, tensors: Iterable[tuple[str, Mapping[str, Tensor]]], state: Mapping[str, Any]) -> None:
        """Write a checkpoint; of `tensors`, (name, some of the tensors called so), one is in memory at a time."""
        with atomic_path(self.path(step)) as folder:
            folder.mkdir()
            counts: Counter[str] = Counter()
            for name, some in tensors:
                counts[name] += 1
                file = name if counts[name] == 1 else f"{name}-{counts[name]}"
                save_file(dict(some), folder / f"{file}.safetensors")
            write_json(folder / "state.json", dict(state))
            files = {f.name: {"bytes": f.stat().st_size, "sha256": sha256_file(f)} for f in sorted(folder.iterdir())}
            manifest = {"format": FORMAT, "step": step, "identity": self.identity, "files": files}
            write_json(folder / "manifest.json", {**manifest, "sha256": sha256_bytes(canonical_json(manifest))})

    def rotate(self, best: int | None) -> None:
        """Remove all but the newest `keep` checkpoints and the best one."""
        for step in self.steps()[: -self.keep]:
            if step != best:
                self.remove(step)

    def remove(self, step: int) -> None:
        """Remove a checkpoint; a crash on the way leaves nothing that looks like one."""
        grave = self.root / f".step-{step:08d}.old.tmp"
        self.path(step).rename(grave)
        shutil.rmtree(grave, ignore_errors=True)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, or None.

        Damaged ones are passed over and noted in `problems`.

        Raises:
            UsageError: It belongs to another training.
        """
        for step in reversed(self.steps()):
            if (checkpoint := self.load(step)) is not None:
                return checkpoint
        return None

    def load(self, step: int) -> Checkpoint | None:
        """The checkpoint of a step, verified; None, and a line in `problems`, when it is damaged or not there."""
        folder = self.path(step)
        try:
            manifest = orjson.loads((folder / "manifest.json").read_bytes())
            claimed = manifest.pop("sha256")
            if claimed != sha256_bytes(canonical_json(manifest)) or manifest["format"] != FORMAT:
                raise ValueError("manifest.json is damaged")
            for name, file in manifest["files"].items():
                path = folder / name
                if path.stat().st_size != file["bytes"] or sha256_file(path) != file["sha256"]:
                    raise ValueError(f"{name} is damaged")
            state = orjson.loads((folder / "state.json").read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            detail = f"{Path(error.filename).name} is missing" if isinstance(error, FileNotFoundError) else str(error)
            self.problems.append(f"Checkpoint {folder.name} can't be used: {detail}.")
            return None
        self._check_identity(manifest["identity"], folder)
        return Checkpoint(folder, step, state)

    def _check_identity(self, identity: Mapping[str, str], folder: Path) -> None:
        different = different_keys(self.identity, identity)
        if different:
            raise UsageError(
                f"{folder} belongs to another training: it has other {' and '.join(different)}.",
                fix=f"Name an empty folder for checkpoints, or delete {folder.parent} to start again.",
            )


def different_keys(one: Mapping[str, str], other: Mapping[str, str]) -> Sequence[str]:
    """Keys whose values differ between two mappings, sorted."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
