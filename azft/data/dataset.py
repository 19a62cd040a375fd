"""The prepared dataset: a folder of memory-mapped arrays that the training loop reads without loading or parsing it.

    dataset.json                  what is inside: counts, sizes, hashes, parameters; the fingerprint of it all
    findings.json                 what the prepare step found, in the findings' fixed JSON form
    <split>/tokens.bin              (tokens,)         uint16, or uint32 where the vocabulary needs it
    <split>/loss_mask.bin           (tokens,)         uint8, 1 where the token counts in the loss
    <split>/document_offsets.bin    (documents + 1,)  int64: document d is tokens[offsets[d]:offsets[d + 1]]
    <split>/sequence_offsets.bin    (sequences + 1,)  int64: sequence s is documents[offsets[s]:offsets[s + 1]] of
    <split>/sequence_documents.bin  (documents,)      int64: the numbers of the documents, sequence after sequence
    <split>/label_counts.bin        (sequences,)      int64: tokens of the sequence that are predicted and in the loss
    <split>/targets.bin             (loss tokens, width) int32: what is to be told at each token in the loss, document
                                    after document; only where that is not the token itself (classes, positions)
    <split>/references.bin          (bytes,)          uint8: JSON lines, of each document the texts that would each be a
                                    right answer; empty for training rows, and where no text is asked for
    <split>/second_starts.bin       (documents,)      int64: the token at which a document's second text starts, its
                                    length where it has none; empty where no document has one
    <split>/pixels.bin              (documents, 3, height, width) uint8: the picture that belongs to each document; only
                                    where pictures are learned
    <split>/sources.bin             (bytes,)          uint8: JSON lines, where in its row each document is from
                                    (`Source`); empty for training rows, and where answers are no part of a row's text

Arrays are little-endian and have no header; `dataset.json` says how long each one is. This module reads them;
`azft.data.dataset_writer` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from azft.errors import AzftError, NotFoundError
from azft.files import canonical_json, sha256_bytes, sha256_file

FORMAT = 3
"""Raised when an older reader could misread a newer folder."""


class Document(NamedTuple):
    """One row, or a piece of one."""

    tokens: NDArray[np.unsignedinteger[Any]]
    """(tokens,)."""
    loss_mask: NDArray[np.uint8]
    """(tokens,), 1 where the token is in the loss."""
    targets: NDArray[np.int32] | None = None
    """(tokens in the loss, width), what is to be told at each; None: the tokens themselves."""
    second: int | None = None
    """The token at which the second of two texts starts; None where there is one text."""


class Source(NamedTuple):
    """Where a document of a held-out row is from."""

    row: int
    """Number of the row in its split, from 0; several documents may be of one row."""
    text: str
    """The row's text that answers are parts of; "" for further documents of the same row."""
    offsets: Sequence[tuple[int, int]]
    """[start, end) in that text of each token from `Document.second` on; (0, 0) of those that stand for no text."""


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The narrowest type that holds every token id of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def array_types(vocab_size: int, target_width: int = 0, pixels: Sequence[int] = ()) -> dict[str, np.dtype[Any]]:
    """The type of each array of a split, by its file's name without `.bin`; `pixels` is the shape of a picture."""
    integers = np.dtype("<i8")
    targets = {"targets": np.dtype("<i4")} if target_width else {}
    pictures = {"pixels": np.dtype("u1")} if pixels else {}
    return {
        **targets,
        **pictures,
        "tokens": token_dtype(vocab_size),
        "loss_mask": np.dtype("u1"),
        "document_offsets": integers,
        "sequence_offsets": integers,
        "sequence_documents": integers,
        "label_counts": integers,
        "references": np.dtype("u1"),
        "second_starts": integers,
        "sources": np.dtype("u1"),
    }


@dataclass(frozen=True)
class TokenDataset:
    """One split, open for reading. `len()` is its number of sequences. The arrays are read-only memory maps."""

    split: str
    tokens: NDArray[np.unsignedinteger[Any]]
    loss_mask: NDArray[np.uint8]
    document_offsets: NDArray[np.int64]
    sequence_offsets: NDArray[np.int64]
    sequence_documents: NDArray[np.int64]
    label_counts: NDArray[np.int64]
    """(sequences,) what is learned in each. Of tokens: the first of a document follows nothing, so it is never one."""
    references: NDArray[np.uint8]
    """(bytes,), what `references_of` reads."""
    second_starts: NDArray[np.int64]
    """(documents,), or (0,) where no document has a second text."""
    sources: NDArray[np.uint8]
    """(bytes,), what `all_sources` reads."""
    max_length: int
    vocab_size: int
    fingerprint: str
    """Hex SHA-256 over the whole dataset (all splits): the same inputs and parameters give the same one."""
    objective: str = "next-token"
    """What is learned from the tokens: a row of `azft.training.objectives`."""
    labels: tuple[str, ...] = ()
    """Names of what can be told, by number; () where that are tokens or positions."""
    targets: NDArray[np.int32] | None = None
    """(loss tokens, width), document after document; None: the tokens themselves."""
    pixels: NDArray[np.uint8] | None = None
    """(documents, 3, height, width); None where no pictures are learned."""

    def __len__(self) -> int:
        return len(self.sequence_offsets) - 1

    def sequence(self, index: int) -> list[Document]:
        """The documents that share sequence `index`, as views."""
        if not 0 <= index < len(self):
            raise IndexError(f"sequence {index} of {len(self)}")
        members = self.sequence_documents[self.sequence_offsets[index] : self.sequence_offsets[index + 1]]
        return [self.document(int(number)) for number in members]

    def document(self, number: int) -> Document:
        """Document `number`, as views."""
        span = slice(int(self.document_offsets[number]), int(self.document_offsets[number + 1]))
        if self.targets is None:
            return Document(self.tokens[span], self.loss_mask[span])
        told = slice(int(self.target_offsets[number]), int(self.target_offsets[number + 1]))
        second = int(self.second_starts[number]) if len(self.second_starts) else None
        return Document(self.tokens[span], self.loss_mask[span], self.targets[told], second)

    def references_of(self, number: int) -> list[str]:
        """Texts any of which is right as the model's answer to document `number`; [] where none is known."""
        return list(self._references[number]) if number < len(self._references) else []

    def all_sources(self) -> list[Source]:
        """Where each document is from; [] where that was not kept."""
        return [Source(*orjson.loads(line)) for line in self.sources.tobytes().splitlines()]

    @cached_property
    def _references(self) -> list[list[str]]:
        return [orjson.loads(line) for line in self.references.tobytes().splitlines()]

    @cached_property
    def target_offsets(self) -> NDArray[np.int64]:
        """Document d's targets are targets[offsets[d]:offsets[d + 1]]; (documents + 1,)."""
        before = np.concatenate([[0], np.cumsum(self.loss_mask, dtype=np.int64)])
        offsets: NDArray[np.int64] = before[self.document_offsets]
        return offsets

    @property
    def document_lengths(self) -> NDArray[np.int64]:
        """Tokens of each document; (documents,)."""
        return np.diff(self.document_offsets)

    @property
    def sequence_lengths(self) -> NDArray[np.int64]:
        """Tokens of each sequence; (sequences,)."""
        total = np.concatenate([[0], np.cumsum(self.document_lengths[self.sequence_documents])])
        return np.diff(total[self.sequence_offsets])


def read_manifest(folder: Path) -> dict[str, Any]:
    """`dataset.json` of a dataset folder.

    Raises `NotFoundError` where there is none, `AzftError` for a damaged one or another format.
    """
    path = folder / "dataset.json"
    try:
        manifest: dict[str, Any] = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"{folder} is not a prepared dataset: it has no dataset.json.") from None
    except orjson.JSONDecodeError as error:
        raise AzftError(f"{path} is damaged: {error}.", fix="Run the prepare step again.") from None
    if manifest.get("format") != FORMAT:
        raise AzftError(
            f"{path} has format {manifest.get('format')}; this azft reads format {FORMAT}.",
            fix="Run the prepare step again with this version.",
        )
    return manifest


def open_dataset(folder: Path, split: str) -> TokenDataset:
    """Open one split (`train`, `validation` or `test`). Sizes are checked; `verify` checks the contents too.

    Raises `NotFoundError` when the folder or split is not there, `AzftError` when a file is missing or has
    another size.
    """
    manifest = read_manifest(folder)
    if split not in manifest["splits"]:
        raise NotFoundError(f"{folder} has no split `{split}`; it has: {', '.join(manifest['splits'])}.")
    files = manifest["splits"][split]["files"]
    arrays: dict[str, Any] = {}
    width = manifest["target_width"]
    pixels = manifest.get("pixels", ())
    for name, dtype in array_types(manifest["vocab_size"], width, pixels).items():
        path, size = folder / split / f"{name}.bin", files[name]["bytes"]
        if not path.is_file() or path.stat().st_size != size:
            raise _damaged(path)
        arrays[name] = np.memmap(path, dtype, mode="r") if size else np.empty(0, dtype)  # an empty file can't be mapped
    if width:
        arrays["targets"] = arrays["targets"].reshape(-1, width)
    if pixels:
        arrays["pixels"] = arrays["pixels"].reshape(-1, *pixels)
    return TokenDataset(
        split=split,
        **arrays,
        objective=manifest["objective"],
        labels=tuple(manifest["labels"]),
        max_length=manifest["max_length"],
        vocab_size=manifest["vocab_size"],
        fingerprint=manifest["fingerprint"],
    )


def verify(folder: Path) -> None:
    """Read every file and compare it with the hashes in `dataset.json`.

    Raises `AzftError` naming the first that differs.
    """
    manifest = read_manifest(folder)
    for split, summary in manifest["splits"].items():
        for name, file in summary["files"].items():
            path = folder / split / f"{name}.bin"
            if not path.is_file() or path.stat().st_size != file["bytes"] or sha256_file(path) != file["sha256"]:
                raise _damaged(path)
    if manifest["fingerprint"] != fingerprint_of(manifest):
        raise _damaged(folder / "dataset.json")


def _damaged(path: Path) -> AzftError:
    return AzftError(f"{path} is missing or damaged.", fix="Run the prepare step again.")


def fingerprint_of(manifest: Mapping[str, Any]) -> str:
    """Hash of what training depends on: the arrays and their meaning, not the version that wrote them."""
    contents = {split: summary["files"] for split, summary in manifest["splits"].items()}
    keys = ("format", "labels", "max_length", "objective", "target_width", "tokenizer", "vocab_size")
    pixels = {"pixels": manifest["pixels"]} if "pixels" in manifest else {}
    return sha256_bytes(canonical_json({"splits": contents, **{key: manifest[key] for key in keys}, **pixels}))
