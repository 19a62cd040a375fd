"""How ranks share the work: one class a strategy, one row each in `STRATEGIES`.

The loop knows only the methods of `SingleProcess`. A strategy that shards weights overrides what it must: wrapping,
updating, and going from the whole of a weight to its parts and back. So checkpoints hold whole tensors under every
strategy, and one that was written under one is read under another, with any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from azft.training.distribution.ddp import DataParallel
from azft.training.distribution.fsdp import FullyShardedDataParallel
from azft.training.distribution.single import SingleProcess
from azft.training.distribution.zero import Zero

if TYPE_CHECKING:
    from azft.recipe import Distribution

__all__ = ["STRATEGIES", "SingleProcess", "join"]

STRATEGIES: dict[str, Callable[[Distribution], SingleProcess]] = {
    "none": SingleProcess,
    "ddp": DataParallel,
    "fsdp": FullyShardedDataParallel,
    "deepspeed": Zero,
}


@contextmanager
def join(distribution: Distribution) -> Iterator[SingleProcess]:
    """Join the other ranks, as the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_*) says, until the block ends."""
    ranks = STRATEGIES[distribution.strategy](distribution)
    try:
        yield ranks
    finally:
        ranks.close()
