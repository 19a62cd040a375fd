"""Writes the dataset folder that `azft.data.dataset` describes: streaming, hashed on the way, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson
from numpy.typing import NDArray

from azft.data.dataset import FORMAT, Source, array_types, fingerprint_of
from azft.data.packing import one_per_sequence, pack
from azft.files import fsync_folder, write_json
from azft.findings import Finding

MANIFEST = "dataset.json"


class _File:
    """An array file that grows: hashed as it is written, so that it need not be read again."""

    def __init__(self, path: Path, dtype: np.dtype[Any], stack: ExitStack) -> None:
        self.dtype = dtype
        self.file: BinaryIO = stack.enter_context(path.open("wb"))
        self.digest = sha256()
        self.bytes = 0

    def write(self, values: Any) -> None:
        data = np.ascontiguousarray(values, dtype=self.dtype).data.cast("B") if len(values) else b""
        self.file.write(data)
        self.digest.update(data)
        self.bytes += len(data)

    def describe(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "dtype": self.dtype.name, "sha256": self.digest.hexdigest()}


class SplitWriter:
    """Writes one split document by document; memory grows by 16 bytes a document."""

    def __init__(
        self,
        folder: Path,
        vocab_size: int,
        max_length: int,
        stack: ExitStack,
        target_width: int = 0,
        pixels: Sequence[int] = (),
    ) -> None:
        folder.mkdir()
        self.is_training = folder.name == "train"
        self.vocab_size, self.max_length, self.target_width = vocab_size, max_length, target_width
        self.pixels = tuple(pixels)
        types = array_types(vocab_size, target_width, pixels)
        self.files = {name: _File(folder / f"{name}.bin", dtype, stack) for name, dtype in types.items()}
        self.lengths: list[int] = []
        self.labels: list[int] = []
        self.seconds: list[int | None] = []
        self.loss_tokens = 0
        self.referenced = 0
        """Documents that have their line of references."""

    def add(
        self,
        tokens: Sequence[int] | NDArray[Any],
        loss_mask: Sequence[bool] | NDArray[Any],
        targets: NDArray[np.int32] | None = None,
        references: Sequence[str] = (),
        second: int | None = None,
        source: Source | None = None,
        pixels: NDArray[np.uint8] | None = None,
    ) -> None:
        """Append a document of 1 to `max_length` tokens; `targets` is (tokens in the loss, target_width).

        `references` are texts any of which is right as the model's answer; of training rows nobody asks for them,
        nor for the `source`. `second` is where the second of two texts starts, `pixels` the picture that belongs to it.

        Raises `ValueError` for anything that could not be trained on.
        """
        if not 1 <= len(tokens) <= self.max_length or len(loss_mask) != len(tokens):
            raise ValueError(
                f"a document must have 1 to {self.max_length} tokens and a mask value for each; "
                f"there is one of {len(tokens)} tokens and {len(loss_mask)} mask values"
            )
        ids = np.asarray(tokens, dtype=np.int64)
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            raise ValueError(f"token ids must be in 0..{self.vocab_size - 1}; there is {ids.min()} or {ids.max()}")
        mask = np.asarray(loss_mask, dtype=np.bool_)
        learned = int(np.count_nonzero(mask))
        shape = None if targets is None else targets.shape
        if shape != ((learned, self.target_width) if self.target_width else None):
            raise ValueError(f"{learned} tokens in the loss need {self.target_width} targets each; there are {shape}")
        if (() if pixels is None else pixels.shape) != self.pixels:
            raise ValueError(f"each document needs pixels of shape {self.pixels}")
        if pixels is not None:
            self.files["pixels"].write(pixels.ravel())
        self.files["tokens"].write(ids)
        self.files["loss_mask"].write(mask)
        self.lengths.append(len(ids))
        if targets is None:
            self.labels.append(int(np.count_nonzero(mask[1:])))
        else:
            self.files["targets"].write(targets.ravel())
            self.labels.append(learned)
        self.seconds.append(second)
        self.loss_tokens += learned
        if references and not self.is_training:
            self.add_references(references)
        if source is not None and not self.is_training:
            self.files["sources"].write(np.frombuffer(orjson.dumps(tuple(source)) + b"\n", dtype=np.uint8))

    def add_references(self, references: Sequence[str]) -> None:
        """Those of the document that was added last; the ones before it that have none get an empty list."""
        lines = [b"[]"] * (len(self.lengths) - 1 - self.referenced) + [orjson.dumps(list(references))]
        self.referenced = len(self.lengths)
        self.files["references"].write(np.frombuffer(b"".join(line + b"\n" for line in lines), dtype=np.uint8))

    def finish(self, packing: bool, together: int = 1) -> dict[str, Any]:
        """Form the sequences, write the rest, and return the split's entry of the manifest."""
        lengths = np.array(self.lengths, dtype=np.int64)
        packed = pack(lengths, self.max_length) if packing else one_per_sequence(len(lengths), together)
        labels = np.concatenate([[0], np.cumsum(np.array(self.labels, dtype=np.int64)[packed.documents])])
        counts = np.diff(labels[packed.offsets]) if together == 1 else np.ones(len(packed), dtype=np.int64)
        self.files["document_offsets"].write(np.concatenate([[0], np.cumsum(lengths)]))
        self.files["sequence_offsets"].write(packed.offsets)
        self.files["sequence_documents"].write(packed.documents)
        self.files["label_counts"].write(counts)
        if any(second is not None for second in self.seconds):
            lengths_and_seconds = zip(self.lengths, self.seconds, strict=True)
            starts = [length if second is None else second for length, second in lengths_and_seconds]
            self.files["second_starts"].write(np.array(starts, dtype=np.int64))
        return {
            "documents": len(lengths),
            "sequences": len(packed),
            "tokens": int(lengths.sum()),
            "loss_tokens": self.loss_tokens,
            "files": {name: file.describe() for name, file in self.files.items()},
        }


@dataclass
class DatasetWriter:
    """A dataset being written; see `write_dataset`. `details` and `findings` may be filled in until the block ends."""

    splits: dict[str, SplitWriter]
    details: dict[str, Any] = field(default_factory=dict)
    """Anything worth keeping in `dataset.json`: parameters, what was dropped and why."""
    findings: list[Finding] = field(default_factory=list)


@contextmanager
def write_dataset(
    target: Path,
    *,
    splits: Iterable[str],
    vocab_size: int,
    max_length: int,
    packing: bool,
    tokenizer: str,
    objective: str = "next-token",
    target_width: int = 0,
    labels: Sequence[str] = (),
    documents_per_row: int = 1,
    pixels: Sequence[int] = (),
) -> Iterator[DatasetWriter]:
    """Write a dataset folder; it appears at `target`, whole, when the block ends without an error.

    A dataset that is already there is replaced; when the block raises, it stays.

    `tokenizer` is the fingerprint of the tokenizer and template that made the tokens; `objective` what is learned from
    them, with `target_width` numbers to be told at each token in the loss, which `labels` name. Where a row is several
    documents they share a sequence, and one thing is told about them all. `pixels` is the shape of the picture that
    belongs to each document, where pictures are learned.
    """
    with _written_inside(target) as folder:
        with ExitStack() as stack:
            writers = {
                split: SplitWriter(folder / split, vocab_size, max_length, stack, target_width, pixels)
                for split in splits
            }
            writer = DatasetWriter(writers)
            yield writer
            summaries = {split: one.finish(packing, documents_per_row) for split, one in writers.items()}
        manifest = {
            "format": FORMAT,
            "details": writer.details,
            "labels": list(labels),
            "max_length": max_length,
            "objective": objective,
            "packing": packing,
            "splits": summaries,
            "target_width": target_width,
            "tokenizer": tokenizer,
            "vocab_size": vocab_size,
            **({"pixels": list(pixels)} if pixels else {}),
        }
        write_json(folder / "findings.json", [finding.to_dict() for finding in writer.findings])
        write_json(folder / MANIFEST, {**manifest, "fingerprint": fingerprint_of(manifest)})


@contextmanager
def _written_inside(target: Path) -> Iterator[Path]:
    """A folder inside `target` to write into; what it holds moves up when the block ends well.

    A step's output folder may be a mount point, which can't be renamed. So the files are put in their place one by one
    and the manifest last: without one the folder is no dataset, and never half of one.
    """
    created = not target.exists()
    inside = target / ".writing"
    shutil.rmtree(inside, ignore_errors=True)  # a crash may have left one
    inside.mkdir(parents=True)
    try:
        yield inside
        for file in inside.rglob("*.*"):
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
        (target / MANIFEST).unlink(missing_ok=True)
        for entry in sorted(inside.iterdir(), key=lambda entry: (entry.name == MANIFEST, entry.name)):
            place = target / entry.name
            if place.is_dir():
                shutil.rmtree(place)
            entry.replace(place)
        fsync_folder(target)
    finally:
        shutil.rmtree(inside, ignore_errors=True)
        if created and not any(target.iterdir()):
            target.rmdir()
