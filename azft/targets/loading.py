"""Whether a node's memory can hold what loading the model takes. One that can't ends the run late, and says little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from azft import host_memory
from azft.catalog.rows import ModelRow
from azft.catalog.vm_sizes import VmSizeRow
from azft.data.weight_headers import StoredWeight, loading, stored_weights
from azft.recipe import Recipe

_GIB = 1 << 30
_USABLE = 0.95
"""Of a machine's memory: the rest is the system's and the libraries'."""


@dataclass(frozen=True)
class Node:
    """A machine that loads the model."""

    words: str
    """What it is called."""
    memory: int
    """Bytes of the host's memory."""
    ranks: int
    """On this machine."""
    all_ranks: int
    gpus: bool
    """Whether the weights leave the host's memory, unless they are offloaded."""
    precision: str
    """bf16, fp16 or fp32; where it isn't known, the one that takes least."""
    gpu_memory: int | None = None
    """Bytes of each GPU's memory; None without GPUs, or where it isn't known."""


def node_of(recipe: Recipe, size: VmSizeRow, gpus_per_node: int) -> Node | None:
    """A node of that size; None where the table doesn't say how much memory it has."""
    if size.memory is None:
        return None
    wanted = recipe.training.precision
    precision = ("bf16" if size.bf16 or not size.gpus else "fp32") if wanted == "auto" else wanted
    ranks = gpus_per_node * recipe.modes.maap.nodes
    gpu_memory = size.gpu_memory * _GIB if size.gpu_memory is not None else None
    return Node(size.name, size.memory * _GIB, gpus_per_node, ranks, size.gpus > 0, precision, gpu_memory)


@dataclass(frozen=True)
class TooSmall:
    """What a node can't hold."""

    message: str
    fix: str
    exact: bool
    """As of `KnownWeights`."""


class KnownWeights(NamedTuple):
    """What is known of a model's weights; nothing, where `stored` is empty."""

    stored: Sequence[StoredWeight]
    exact: bool
    """Whether the weights' own headers say it, and not the catalog's row."""


def known_weights(folder: Path | None, row: ModelRow | None) -> KnownWeights:
    """By the headers of the model's files in `folder`, where they are here, else about as many as the row says."""
    stored = list(stored_weights(folder).values()) if folder is not None else []
    if not stored and row is not None and row.weights is not None:
        return KnownWeights([StoredWeight("BF16", (row.weights,))], exact=False)  # as nearly all of them are
    return KnownWeights(stored, exact=bool(stored))


def too_small(recipe: Recipe, node: Node, known: KnownWeights) -> TooSmall | None:
    """What stands in the way on this node; None where all is well, or nothing is known of the model."""
    technique, distribution = recipe.technique, recipe.distribution
    need = loading(known.stored, technique, node.precision)
    whole = need.most(gathers=distribution.shards_weights)
    on_host = not node.gpus or distribution.offload == "all"
    kept = need.kept(ranks=node.all_ranks, in_parts=distribution.shards_weights, on_host=on_host)
    least = host_memory.least(ranks=node.ranks, whole=whole, kept=kept)
    if least <= node.memory * _USABLE:
        return None
    ranks = f" for its {node.ranks} ranks" if node.ranks > 1 and kept else ""
    in_fp32 = " (every weight in fp32)" if technique.changes_base or node.precision == "fp32" else ""
    about = "" if known.exact else "about "
    message = (
        f"To load the model{ranks} takes {about}{least / _GIB:.1f} GiB of memory{in_fp32}, and "
        f"{node.words} has {node.memory / _GIB:.0f} GiB: the system would end the run there, without a word."
    )
    instead = ", or technique lora, for which the base stays in the type it is stored in" * technique.changes_base
    return TooSmall(message, f"Take a machine with more memory{instead}.", known.exact)
