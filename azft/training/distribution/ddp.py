"""Every rank holds the model and takes its share of each batch; torch's DDP adds up the gradients."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from azft.training.distribution.single import SingleProcess

if TYPE_CHECKING:
    from torch import Tensor, nn

    from azft.recipe import Distribution

_GROUPS: list[Any] = []
"""Keeps process groups until the interpreter ends. Otherwise DDP may hold the last reference, and torch 2.13 then frees
gloo's group with the interpreter locked while it waits for a thread that wants that lock: ranks hung at their end."""


class Grouped(SingleProcess):
    """What all strategies for several ranks share: torch's process group, as torchrun or Azure ML's variables say."""

    needs_one_rank = False
    backends: ClassVar[dict[str, str]] = {"cpu": "gloo", "cuda": "nccl"}
    """torch's name of the communication, by device type."""

    def __init__(self, distribution: Distribution | None = None) -> None:
        super().__init__(distribution)
        import torch.distributed as dist

        backend = self.backends[self.device.type]
        if self.ranks > 1:
            dist.init_process_group(backend)
        else:  # nobody to find, so none of the launcher's variables either
            from torch._C._distributed_c10d import HashStore

            dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
        _GROUPS.append(dist.group.WORLD)

    def add_up(self, values: Sequence[float]) -> list[float]:
        import torch.distributed as dist

        totals = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(totals)
        return [float(total) for total in totals.tolist()]

    def gather(self, tensor: Tensor) -> list[Tensor]:
        import torch.distributed as dist

        mine = tensor.to(self.device)
        everyones = [torch.empty_like(mine) for _ in range(self.ranks)]
        dist.all_gather(everyones, mine)
        return [one.cpu() for one in everyones]

    def choice_of_main(self, value: int) -> int:
        return int(self.add_up([value if self.is_main else 0])[0])

    def close(self) -> None:
        import torch.distributed as dist

        dist.destroy_process_group()


class DataParallel(Grouped):
    """torch's DistributedDataParallel."""

    def _wrap(self, module: nn.Module) -> nn.Module:
        if self.ranks == 1:
            return module
        # DDP divides by the number of ranks; the loop scales the loss up by it, so that gradients are plain sums.
        devices = [self.device.index] if self.device.type == "cuda" else None
        return torch.nn.parallel.DistributedDataParallel(module, device_ids=devices)

    def accumulating(self) -> AbstractContextManager[None]:
        return nullcontext() if self.ranks == 1 else self.wrapped.no_sync()
