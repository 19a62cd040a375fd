"""How ranks share the work: one class a strategy, one row each in `STRATEGIES`.

The loop knows only these few methods. A strategy that shards weights overrides what it must: wrapping, clipping, state.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from azft.errors import UsageError
from azft.training.devices import pick_device

if TYPE_CHECKING:
    from torch import Tensor, nn


class SingleProcess:
    """One process holds and does everything; also the base of the other strategies."""

    needs_one_rank = True

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", "0"))
        self.ranks = int(os.environ.get("WORLD_SIZE", "1"))
        if self.needs_one_rank and self.ranks > 1:
            raise UsageError(
                f"{self.ranks} processes were started, but the recipe's distribution.strategy is `none`.",
                fix="Set distribution.strategy to ddp, or start one process.",
            )
        self.device = pick_device(int(os.environ.get("LOCAL_RANK", "0")))

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and talks."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module to call for training; its forward takes a batch and gives the summed loss."""
        return module

    def accumulating(self, module: nn.Module) -> AbstractContextManager[None]:
        """Context of every backward pass of a step but the last: gradients add up and are not exchanged yet."""
        del module
        return nullcontext()

    def clip(self, parameters: Iterable[Tensor], max_norm: float) -> Tensor:
        """Scale gradients down to `max_norm` (0: leave them); the norm before, over all parameters, shape ()."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if max_norm > 0:
            torch._foreach_mul_(gradients, torch.clamp(max_norm / (norm + 1e-6), max=1.0).to(norm.dtype))
        return norm

    def add_up(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks, in double precision."""
        return list(values)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The CPU tensor of every rank, by rank. Shapes must agree."""
        return [tensor]

    def choice_of_main(self, value: int) -> int:
        """Rank 0's value, on every rank."""
        return value

    def close(self) -> None:
        """Leave the group of ranks."""


_GROUPS: list[Any] = []
"""Keeps process groups until the interpreter ends. Otherwise DDP may hold the last reference, and torch 2.13 then frees
gloo's group with the interpreter locked while it waits for a thread that wants that lock: ranks hung at their end."""


class DataParallel(SingleProcess):
    """Every rank holds the model and takes its share of each batch; torch's DDP adds up the gradients."""

    needs_one_rank = False

    def __init__(self) -> None:
        super().__init__()
        if self.ranks > 1:
            import torch.distributed as dist

            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            _GROUPS.append(dist.group.WORLD)

    def wrap(self, module: nn.Module) -> nn.Module:
        if self.ranks == 1:
            return module
        # DDP divides by the number of ranks; the loop scales the loss up by it, so that gradients are plain sums.
        devices = [self.device.index] if self.device.type == "cuda" else None
        return torch.nn.parallel.DistributedDataParallel(module, device_ids=devices)

    def accumulating(self, module: nn.Module) -> AbstractContextManager[None]:
        if isinstance(module, torch.nn.parallel.DistributedDataParallel):
            return module.no_sync()
        return nullcontext()

    def add_up(self, values: Sequence[float]) -> list[float]:
        if self.ranks == 1:
            return list(values)
        import torch.distributed as dist

        totals = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(totals)
        return [float(total) for total in totals.tolist()]

    def gather(self, tensor: Tensor) -> list[Tensor]:
        if self.ranks == 1:
            return [tensor]
        import torch.distributed as dist

        mine = tensor.to(self.device)
        everyones = [torch.empty_like(mine) for _ in range(self.ranks)]
        dist.all_gather(everyones, mine)
        return [one.cpu() for one in everyones]

    def choice_of_main(self, value: int) -> int:
        return int(self.add_up([value if self.is_main else 0])[0])

    def close(self) -> None:
        if self.ranks > 1:
            import torch.distributed as dist

            dist.destroy_process_group()


STRATEGIES: dict[str, type[SingleProcess]] = {"none": SingleProcess, "ddp": DataParallel}


@contextmanager
def join(strategy: str) -> Iterator[SingleProcess]:
    """Join the other ranks, as the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_*) says, until the block ends."""
    ranks = STRATEGIES[strategy]()
    try:
        yield ranks
    finally:
        ranks.close()
