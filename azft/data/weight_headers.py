"""What the headers of a model's safetensors files say of its weights, and what loading them takes. Nothing is loaded.

A tensor that is loaded in the type in which it is stored is a view of its file: the kernel keeps one copy of its pages
for all ranks of a node, and drops it when memory is short. One that is converted is each rank's own.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import orjson

from azft.data.model_folder import weight_files
from azft.techniques import Full, Qlora, TechniqueBase

_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Of the floating types, as safetensors calls them."""
_TYPES = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}
_QLORA_BYTES = 0.5625
"""A weight in 4 bits and its share of a block's scale, fp32 for 64 weights."""


class StoredWeight(NamedTuple):
    """A tensor of a file."""

    dtype: str
    """safetensors' name of it: F32, BF16 ..."""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Loading:
    """Bytes of the host's memory that one model takes and that can't be dropped."""

    whole: int
    """While it is loaded: a converted copy, or nothing where the files' pages serve."""
    weights: int
    """Of all weights as they are computed with: what stays with the ranks, whole or in parts, where the host has it."""
    result: int
    """Of the whole model into which trained weights are gathered at the end."""

    def kept(self, *, ranks: int, in_parts: bool, on_host: bool) -> int:
        """What a rank goes on taking of the host's memory: where weights stay there, its part or all that it loaded."""
        if not on_host:
            return 0
        return self.weights // ranks if in_parts else self.whole

    def most(self, *, gathers: bool) -> int:
        """What rank 0 takes at its worst moment; with `gathers`, where weights are in parts until the end."""
        return max(self.whole, self.result) if gathers else self.whole


def stored_weights(folder: Path) -> dict[str, StoredWeight]:
    """The weights in a folder's safetensors files, by name; empty where a header can't be read."""
    stored: dict[str, StoredWeight] = {}
    for file in weight_files(folder):
        try:
            with file.open("rb") as handle:
                (length,) = struct.unpack("<Q", handle.read(8))
                header = orjson.loads(handle.read(min(length, 100_000_000)))
            stored |= {
                name: StoredWeight(str(entry["dtype"]), tuple(entry["shape"]))
                for name, entry in header.items()
                if name != "__metadata__"
            }
        except (OSError, struct.error, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            return {}
    return stored


def loading(weights: Iterable[StoredWeight], technique: TechniqueBase, precision: str) -> Loading:
    """What loading takes under a technique, with matrix products in `precision` (bf16, fp16 or fp32)."""
    wanted = "F32" if technique.changes_base else _TYPES[precision]
    whole = everything = result = 0
    for dtype, shape in weights:
        if dtype not in _BYTES:
            continue
        count = math.prod(shape)
        if isinstance(technique, Qlora):
            whole += math.ceil(count * _QLORA_BYTES)
            everything += math.ceil(count * _QLORA_BYTES)
            result += math.ceil(count * _QLORA_BYTES)
            continue
        converted = count * _BYTES[wanted] if dtype != wanted else 0
        whole += converted
        everything += count * _BYTES[wanted]
        # Where every weight is replaced, they are gathered into a model of the stored type; else into one as at first.
        result += count * _BYTES[dtype] if isinstance(technique, Full) else converted
    return Loading(whole, everything, result)
