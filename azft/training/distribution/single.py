"""One process, and what every strategy is asked for: the loop and `snapshot` know these methods and nothing else."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from azft.errors import UsageError
from azft.training.devices import Arithmetic, pick_device, tell_deepspeed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from azft.data.weight_headers import Loading
    from azft.recipe import Distribution, Training

OptimizerOf = Callable[[list["nn.Parameter"]], torch.optim.Optimizer]


class SingleProcess:
    """One process holds and does everything; also the base of the other strategies."""

    needs_one_rank = True
    shards_weights = False
    """Whether a rank holds a part of each weight only. Then every forward pass is an exchange, in which all ranks take
    part, and no rank has a model that could be written down."""
    shards_state = False
    """Whether a rank holds a part of the optimizer's state only."""

    def __init__(self, distribution: Distribution | None = None) -> None:
        self.distribution = distribution
        self.rank = int(os.environ.get("RANK", "0"))
        self.ranks = int(os.environ.get("WORLD_SIZE", "1"))
        if self.needs_one_rank and self.ranks > 1:
            raise UsageError(
                f"{self.ranks} processes were started, but the recipe's distribution.strategy is `none`.",
                fix="Set distribution.strategy to ddp, fsdp or deepspeed, or start one process.",
            )
        self.device = pick_device(int(os.environ.get("LOCAL_RANK", "0")))
        tell_deepspeed(self.device)
        self.wrapped: Any = None
        self.parameters: list[nn.Parameter] = []
        self.optimizer: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and talks."""
        return self.rank == 0

    @property
    def loads_to(self) -> torch.device:
        """Where a model is put before `adopt`: it may be too large for the device until it is sharded."""
        return torch.device("cpu") if self.shards_weights else self.device

    @contextmanager
    def turn(self, _loading: Loading, _say: Callable[[str], object]) -> Iterator[None]:
        """The time in which a rank loads a model, prepares it and lets go of what is not its part, by `shard`.

        Ranks take turns where their node's memory can't hold as many whole models as it has ranks, which is then said.
        So nothing is exchanged between ranks inside of it.
        """
        yield

    def shard(self, module: nn.Module, *, training: Training) -> None:
        """Keep of each weight this rank's part only, where that is the strategy; nothing is exchanged."""

    def dimensions(self, parameter: nn.Parameter) -> int:
        """How many a weight has, also when only a part of it is here."""
        return parameter.dim()

    def adopt(
        self, module: nn.Module, optimizer_of: OptimizerOf, *, training: Training, arithmetic: Arithmetic
    ) -> torch.optim.Optimizer:
        """Make a module, which went through `shard`, ready to be trained; its forward gives a batch's summed loss.

        `optimizer_of` makes an optimizer of weights. Returns the one whose groups have the learning rates.
        """
        del training
        self.arithmetic = arithmetic
        self.wrapped = self._wrap(module)
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.optimizer = optimizer_of(self.parameters)
        optimizer: torch.optim.Optimizer = self.optimizer
        return optimizer

    def _wrap(self, module: nn.Module) -> nn.Module:
        return module

    def accumulating(self) -> AbstractContextManager[None]:
        """Context of every micro-batch of a step but the last: gradients add up; there is no update yet."""
        return nullcontext()

    def loss(self, batch: Any) -> Tensor:
        """The summed loss of a batch, shape (), to be handed to `backward`."""
        with self.arithmetic.autocast():
            loss: Tensor = self.wrapped(batch)
        return loss

    def score(self, module: Any, batch: Any) -> Any:
        """What the module's `score` gives for a batch."""
        with self.arithmetic.autocast():
            return module.score(batch)

    def backward(self, loss: Tensor, *, scale: float = 1.0) -> None:
        """Add the loss's gradient, times `scale`. Gradients are averaged over the ranks: the loss makes up for it."""
        torch.autograd.backward(loss if scale == 1.0 else loss * scale)

    def update(self, max_norm: float, *, scale: float = 1.0) -> float:
        """Scale gradients down to `max_norm` (0: leave them), update the weights, and forget the gradients.

        Returns the norm before, over all weights, and without the `scale` that the losses had. When it is not finite,
        nothing is updated.
        """
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        total = self._total_norm(gradients) / scale
        norm = float(total)
        if math.isfinite(norm):
            if max_norm > 0 or scale != 1.0:
                factor = torch.clamp(max_norm / (total + 1e-6), max=1.0) if max_norm > 0 else torch.ones_like(total)
                torch._foreach_mul_(self._local(gradients), (factor / scale).to(total.dtype))
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _total_norm(self, gradients: list[Tensor]) -> Tensor:
        return torch.nn.utils.get_total_norm(gradients)

    def _local(self, tensors: list[Tensor]) -> list[Tensor]:
        """What this rank holds of each tensor; writing to it writes to the tensor."""
        return tensors

    def whole_weight(self, parameter: nn.Parameter) -> Tensor:
        """All of a trained weight, on the CPU. Every rank asks for the same one at the same time; so for all below."""
        return parameter.detach().cpu().contiguous()

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Set a trained weight, bit for bit, to `value`, which every rank has whole."""
        parameter.data.copy_(value)

    def whole_state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What the optimizer remembers about a weight, whole, on the CPU: for AdamW both moments and the step."""
        return {key: v.detach().cpu().contiguous() for key, v in self.optimizer.state.get(parameter, {}).items()}

    def set_state(self, parameter: nn.Parameter, state: dict[str, Tensor]) -> None:
        """Set what the optimizer remembers about a weight, bit for bit."""
        # The fused AdamW keeps its step counter beside the weights.
        self.optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}

    def squares(self, parameters: Sequence[nn.Parameter]) -> list[float]:
        """The sum of each weight's squares, added up over what the ranks hold of it, in double precision."""
        local = self._local([parameter.detach() for parameter in parameters])
        return self.add_up([float(part.double().square().sum()) for part in local])

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
