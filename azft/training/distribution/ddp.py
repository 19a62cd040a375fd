"""Every rank holds the model and takes its share of each batch; torch's DDP adds up the gradients."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from azft import host_memory
from azft.training.distribution.single import SingleProcess

if TYPE_CHECKING:
    from torch import Tensor, nn

    from azft.data.weight_headers import Loading
    from azft.recipe import Distribution

_GROUPS: list[Any] = []
"""Keeps process groups until the interpreter ends. Otherwise DDP may hold the last reference, and torch 2.13 then frees
gloo's group with the interpreter locked while it waits for a thread that wants that lock: ranks hung at their end."""

_USABLE = 0.9
"""Of a node's free memory: what loading is let take, beside what libraries and a layer in the making need."""
_PATIENCE = timedelta(days=1)
"""For other ranks' turns; what ends them is the end of their process. NCCL's own 10 minutes are for steps."""


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

    @contextmanager
    def turn(self, loading: Loading, say: Callable[[str], object]) -> Iterator[None]:
        import torch.distributed as dist

        local_rank, here, turns = self._turns(loading)
        if turns == 1:
            yield
            return
        say(
            f"loading: the {here} ranks of a node in {turns} turns, because each takes {loading.whole / 2**30:.1f} GiB "
            "of its memory for a moment"
        )
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        _GROUPS.append(group)
        for number in range(turns):
            failed = torch.zeros(())
            try:
                if number == local_rank * turns // here:
                    yield
                    host_memory.give_back()
            except BaseException:
                failed += 1
                raise
            finally:
                dist.all_reduce(failed, group=group)
            if failed:
                raise SystemExit(1)  # the rank that failed says why, and the last error in a log is taken for the cause

    def _turns(self, loading: Loading) -> tuple[int, int, int]:
        """This rank's number on its node, how many ranks it has, and in how many turns they load; as on all nodes."""
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        memory = host_memory.available()
        everyones = torch.stack(self.gather(torch.tensor([local_rank, -1 if memory is None else memory])))
        here, least = int(everyones[:, 0].max()) + 1, int(everyones[:, 1].min())
        kept = self._kept(loading)
        if least < 0 or loading.whole <= kept or not self.parts_alone:
            return local_rank, here, 1
        fitting = host_memory.at_once(int(least * _USABLE), ranks=here, whole=loading.whole, kept=kept)
        return local_rank, here, -(-here // max(1, fitting))

    @property
    def parts_alone(self) -> bool:
        """Whether a rank has let go of what is not its part when its turn ends."""
        return True

    def _kept(self, loading: Loading) -> int:
        """Bytes of the host's memory that a loaded model goes on taking on this rank."""
        offloads = self.distribution is not None and self.distribution.offload == "all"
        on_host = self.device.type != "cuda" or offloads
        return loading.kept(ranks=self.ranks, in_parts=self.shards_weights, on_host=on_host)

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
