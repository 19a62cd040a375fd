"""Whether a node's memory can hold what loading the model takes. One that can't ends the run late, and says little."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    """Whether the weights' own headers say it, and not the catalog's row."""


def known_weights(folder: Path | None, row: ModelRow | None) -> tuple[list[StoredWeight], bool]:
    """The model's weights by its files' headers, else about as many as the catalog's row says; and whether exactly."""
    stored = list(stored_weights(folder).values()) if folder is not None else []
    if not stored and row is not None and row.weights is not None:
        return [StoredWeight("BF16", (row.weights,))], False  # as nearly all of them are
    return stored, bool(stored)


def too_small(recipe: Recipe, node: Node, folder: Path | None, row: ModelRow | None) -> TooSmall | None:
    """What stands in the way on this node; None where all is well, or nothing is known of the model.

    `folder` holds the model's files, where they are here; `row` is the catalog's.
    """
    stored, exact = known_weights(folder, row)
    technique, distribution = recipe.technique, recipe.distribution
    need = loading(stored, technique, node.precision)
    whole = need.most(gathers=distribution.shards_weights)
    if node.gpus and distribution.offload != "all":
        kept = 0
    else:
        kept = need.weights // node.all_ranks if distribution.shards_weights else need.whole
    least = host_memory.least(ranks=node.ranks, whole=whole, kept=kept)
    if least <= node.memory * _USABLE:
        return None
    ranks = f" for its {node.ranks} ranks" if node.ranks > 1 and kept else ""
    in_fp32 = " (every weight in fp32)" if technique.changes_base or node.precision == "fp32" else ""
    message = (
        f"To load the model{ranks} takes {'' if exact else 'about '}{least / _GIB:.1f} GiB of memory{in_fp32}, and "
        f"{node.words} has {node.memory / _GIB:.0f} GiB: the system would end the run there, without a word."
    )
    instead = ", or technique lora, for which the base stays in the type it is stored in" * technique.changes_base
    return TooSmall(message, f"Take a machine with more memory{instead}.", exact)
