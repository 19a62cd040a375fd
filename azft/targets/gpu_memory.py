"""Whether a GPU can hold what training keeps on it. One that can't ends the run at its first step, when the node bills.

What is counted is there at the end of every step, however small its batches are: weights, and with `full` a gradient
and AdamW's two states for each, all in fp32 (docs/distribution.md). Activations come on top, so that what is found by
the headers of a model's files is sure, and what isn't found may still be too large.
"""

from __future__ import annotations

from azft.data.weight_headers import loading
from azft.recipe import Distribution, Recipe
from azft.targets.loading import KnownWeights, Node, TooSmall
from azft.techniques import Full, Qlora

_GIB = 1 << 30
_GRADIENT, _STATES = 1, 2
"""Of each weight that moves, in its own size."""


def too_small_gpus(recipe: Recipe, node: Node, known: KnownWeights) -> TooSmall | None:
    """What stands in the way on each GPU of this node; None where all is well, or nothing is known."""
    if node.gpu_memory is None:
        return None
    technique = recipe.technique
    weights = loading(known.stored, technique, node.precision).weights
    whole = isinstance(technique, Full)
    moving = weights if whole else 0  # of other techniques it is a small part, and not known without the model
    least = _on_a_gpu(weights, moving, recipe.distribution, node.all_ranks)
    if least <= node.gpu_memory:
        return None
    what = "weights, gradients and optimizer states" if whole else "the weights"
    size, end = f"about {least / _GIB:.1f} GiB (by the catalog's row, to within a third)", "would probably end"
    if known.exact:
        size, end = f"{least / _GIB:.1f} GiB", "would end"
    message = (
        f"On each GPU {what} take {size}, activations not counted, and {node.words} has "
        f"{node.gpu_memory / _GIB:.0f} GiB on each: the run {end} at its first step."
    )
    return TooSmall(message, f"Take {', or '.join(_ways_out(recipe))}.", known.exact)


def _on_a_gpu(weights: int, moving: int, distribution: Distribution, ranks: int) -> int:
    """Bytes that a rank keeps on its GPU at least."""
    if distribution.offload == "all":
        return 0
    states = 0 if distribution.offload == "optimizer" else _STATES * moving
    # In the order in which ZeRO's stages share them out; fsdp is its third.
    kept = (states, _GRADIENT * moving, weights)
    shared = {"deepspeed": distribution.zero_stage, "fsdp": len(kept)}.get(distribution.strategy, 0)
    return sum(size // ranks if number < shared else size for number, size in enumerate(kept))


def _ways_out(recipe: Recipe) -> list[str]:
    ways = []
    if not recipe.technique.is_adapter:
        ways.append("technique lora, which leaves the weights in the type they are stored in")
    elif recipe.technique.changes_base:
        ways.append("another technique.init, which leaves the weights in the type they are stored in")
    elif not isinstance(recipe.technique, Qlora):
        ways.append("technique qlora, which keeps them in 4 bits")
    if recipe.distribution.shards_weights:
        ways.append("more GPUs (modes.maap.nodes and gpus_per_node)")
    else:
        ways.append("several GPUs that share them (distribution.strategy: fsdp)")
    return [*ways, "GPUs with more memory"]
