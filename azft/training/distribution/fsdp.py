"""Every rank holds a part of every weight, gradient and optimizer state: torch's `fully_shard` (FSDP2), used directly.

Not through accelerate, which on a machine without GPUs turns FSDP into DDP and says nothing. What is not covered:
sharding within a node and copies between nodes (HSDP), and gathering masters in bf16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch

from azft.training.distribution.ddp import Grouped
from azft.training.models import unwrapped

if TYPE_CHECKING:
    from torch import Tensor, nn

    from azft.recipe import Distribution, Training


class FullyShardedDataParallel(Grouped):
    """A layer's weights are gathered for its forward and its backward pass, and let go afterwards.

    Gradients are exchanged after every micro-batch: keeping them until the last would keep them whole, which is what
    sharding is there to avoid. Weights keep their types and are computed with under autocast, as in one process.
    """

    shards_weights = shards_state = True
    backends: ClassVar[dict[str, str]] = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
    """Both on a GPU: what is offloaded has its norm on the CPU."""

    def __init__(self, distribution: Distribution | None = None) -> None:
        super().__init__(distribution)
        from torch.distributed.device_mesh import init_device_mesh

        self._mesh = init_device_mesh(self.device.type, (self.ranks,))  # which ranks make together

    def shard(self, module: nn.Module, *, training: Training) -> None:
        del training
        from torch.distributed.fsdp import (
            CPUOffloadPolicy,
            OffloadPolicy,
            fully_shard,
            register_fsdp_forward_method,
        )
        from torch.distributed.tensor import DTensor

        offloads = self.distribution is not None and self.distribution.offload == "all"
        on_gpu = self.device.type == "cuda"
        policy: OffloadPolicy = CPUOffloadPolicy(pin_memory=on_gpu) if offloads and on_gpu else OffloadPolicy()
        for block in _blocks(module):
            fully_shard(block, mesh=self._mesh, offload_policy=policy)
        fully_shard(module, mesh=self._mesh, offload_policy=policy)
        whole = [name for name, p in module.named_parameters() if not isinstance(p, DTensor)]
        if whole:
            raise RuntimeError(f"fully_shard left weights whole: {whole[:3]}")
        if hasattr(module, "score"):
            register_fsdp_forward_method(module, "score")

    def score(self, module: Any, batch: Any) -> Any:
        scored = super().score(module, batch)
        # Without a backward pass the outermost weights would stay whole, and be other objects than those of training.
        self.wrapped.reshard()
        return scored

    def _total_norm(self, gradients: list[Tensor]) -> Tensor:
        total: Any = super()._total_norm(gradients)
        norm: Tensor = total.full_tensor()
        return norm

    def _local(self, tensors: list[Tensor]) -> list[Tensor]:
        return [_sharded(tensor).to_local() for tensor in tensors]

    def whole_weight(self, parameter: nn.Parameter) -> Tensor:
        return _whole(_sharded(parameter).detach())

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        with torch.no_grad():
            parameter.copy_(_part(value, _sharded(parameter)))

    def whole_state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        return {key: _whole(value) for key, value in self.optimizer.state.get(parameter, {}).items()}

    def set_state(self, parameter: nn.Parameter, state: dict[str, Tensor]) -> None:
        self.optimizer.state[parameter] = {
            key: _part(value, parameter) if value.dim() > 0 else value.to(parameter.device)
            for key, value in state.items()
        }


def _blocks(module: Any) -> list[nn.Module]:
    """The repeated layers, each of which is gathered by itself; all else is gathered with the whole module."""
    names = set(getattr(unwrapped(module.model), "_no_split_modules", None) or ())
    return [m for m in module.modules() if type(m).__name__ in names and next(m.parameters(), None) is not None]


def _sharded(tensor: Tensor) -> Any:
    """The tensor, once it is sure that it is the ranks' parts of one, and not what a layer has just gathered."""
    from torch.distributed.tensor import DTensor

    if not isinstance(tensor, DTensor):
        raise RuntimeError(f"a tensor of shape {tuple(tensor.shape)} is not sharded where it should be")
    return tensor


def _whole(tensor: Any) -> Tensor:
    """All of a tensor, on the CPU; the optimizer's step counters are whole already."""
    whole: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return whole.detach().cpu().contiguous()


def _part(value: Tensor, like: Any) -> Tensor:
    """This rank's part of a tensor that every rank has whole; nothing is sent."""
    from torch.distributed.tensor import distribute_tensor

    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
