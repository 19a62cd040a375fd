"""DeepSpeed's ZeRO: optimizer states (stage 1), gradients too (2) and weights too (3) are in parts, on the ranks.

DeepSpeed's engine runs backward, clips and steps; here it is made to mean what the loop means. A global batch ends
where the loop says so, and not after a fixed number of micro-batches. Weights and optimizer stay fp32 and are computed
with under autocast, as under every strategy. Nothing of DeepSpeed's is compiled: the optimizer is torch's own.

Its checkpoints are not used, because they go on with the same number of ranks only: weights and optimizer states are
gathered, weight by weight, into the same checkpoints as everywhere. What is not covered: offload to NVMe, and
DeepSpeed's pipeline, tensor and expert parallelism.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from azft.deepspeed_config import make_config, require_agreement
from azft.extras import needs
from azft.training.distribution.ddp import Grouped

if TYPE_CHECKING:
    from torch import Tensor, nn

    from azft.recipe import Distribution, Training
    from azft.training.devices import Arithmetic
    from azft.training.distribution.single import OptimizerOf


class Zero(Grouped):
    """One engine of DeepSpeed around the module and torch's optimizer."""

    shards_state = True

    def __init__(self, distribution: Distribution) -> None:
        with needs("deepspeed", "distribution.strategy: deepspeed"):
            import deepspeed
        super().__init__(distribution)
        self.distribution: Distribution = distribution
        self.shards_weights = distribution.shards_weights
        os.environ.setdefault("LOCAL_RANK", "0")
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", message=".*_tensor` is deprecated", category=FutureWarning)
        # Which of its operators could be compiled here: none. To find out it would run a compiler, and then compile for
        # over a minute what gloo does as well.
        deepspeed.ops.__compatible_ops__ = {}
        deepspeed.init_distributed(self.backends[self.device.type], auto_mpi_discovery=False, verbose=False)

    def shard(self, module: nn.Module, *, training: Training) -> None:
        """Part the weights as `deepspeed.initialize` would, without its broadcast, which all ranks must join at once.

        Nor does the whole model go to a GPU for it, with which `initialize` begins: a weight at a time does.
        """
        if not (self.shards_weights and self.parts_alone):
            return
        import deepspeed

        class Parted(deepspeed.zero.Init):  # type: ignore[misc]
            def _zero_init_param(self, parameter: Any) -> None:
                self._convert_to_deepspeed_param(parameter)
                parameter.partition()

        for tensor in module.buffers():
            tensor.data = tensor.data.to(self.device)
        for parameter in module.parameters():
            if (state := getattr(parameter, "quant_state", None)) is not None:
                state.to(self.device)
        Parted(module=module, dtype=next(module.parameters()).dtype, config_dict_or_path=self._config(training))

    def dimensions(self, parameter: nn.Parameter) -> int:
        return len(getattr(parameter, "ds_shape", parameter.shape))

    @property
    def parts_alone(self) -> bool:
        """Not with copies of parts in each node (hpZ, MiCS), for which DeepSpeed makes groups of ranks."""
        given = self.distribution.config
        zero = given.get("zero_optimization") or {} if isinstance(given, dict) else {}
        return not ({"zero_hpz_partition_size", "mics_shard_size"} & zero.keys())

    def _config(self, training: Training) -> dict[str, Any]:
        """What DeepSpeed is told. Raises `UsageError` where the recipe's own configuration contradicts the recipe."""
        given = self.distribution.config
        if isinstance(given, dict):
            require_agreement(given, training, self.distribution, ranks=self.ranks)
        return make_config(training, self.distribution, ranks=self.ranks, on_gpu=self.device.type == "cuda")

    def adopt(
        self, module: nn.Module, optimizer_of: OptimizerOf, *, training: Training, arithmetic: Arithmetic
    ) -> torch.optim.Optimizer:
        import deepspeed

        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.wrapped, self.optimizer, _, _ = deepspeed.initialize(
            model=_Callable(module, arithmetic),
            optimizer=optimizer_of(self.parameters),
            config=self._config(training),
            dist_init_required=False,
        )
        self.wrapped.set_gradient_accumulation_boundary(True)  # but for what `accumulating` says; nothing is counted
        # Now, and not when a group of weights is first stepped: DeepSpeed then takes the other groups' for empty.
        self._flat_states()
        optimizer: torch.optim.Optimizer = self.optimizer
        return optimizer

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        self.wrapped.set_gradient_accumulation_boundary(False)
        try:
            yield
        finally:
            self.wrapped.set_gradient_accumulation_boundary(True)

    def loss(self, batch: Any) -> Tensor:
        loss: Tensor = self.wrapped(batch)
        return loss

    def score(self, module: Any, batch: Any) -> Any:
        del module
        return self.wrapped(batch, score=True)

    def backward(self, loss: Tensor, *, scale: float = 1.0) -> None:
        if scale != 1.0:
            self.optimizer.override_loss_scale(scale)
        self.wrapped.backward(loss, scale_wrt_gas=False)

    def update(self, max_norm: float, *, scale: float = 1.0) -> float:
        del scale  # the optimizer was told with the loss
        self.optimizer.clip_grad = max_norm
        self.wrapped.step()  # does nothing but forget the gradients when they are not finite, and then gives infinity
        return float(self.wrapped.get_global_grad_norm())

    def whole_weight(self, parameter: nn.Parameter) -> Tensor:
        if not self.shards_weights:
            return super().whole_weight(parameter)
        from deepspeed.utils import safe_get_full_fp32_param

        return _on_cpu(safe_get_full_fp32_param(parameter))

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

        if self.shards_weights:
            part = self._part(parameter, value)
            safe_set_local_fp32_param(parameter, part)
            parameter.ds_tensor.data.copy_(part)  # type: ignore[attr-defined]
        else:
            safe_set_full_fp32_param(parameter, value.to(self.device))
        if parameter.shape == value.shape:  # all of stages 1 and 2, and small weights, which stage 3 keeps whole
            parameter.data.copy_(value)

    def whole_state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_optimizer_state

        state = {key: _on_cpu(safe_get_full_optimizer_state(parameter, key)) for key in _MOMENTS}
        # Counted once for all weights that were flattened together.
        return {"step": _on_cpu(self._flat_states()[0]["step"]).clone(), **state}

    def set_state(self, parameter: nn.Parameter, state: dict[str, Tensor]) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        for flat in self._flat_states():
            flat["step"].copy_(state["step"])
        for key in _MOMENTS:
            if self.shards_weights:
                safe_set_local_optimizer_state(parameter, self._part(parameter, state[key]), key)
            else:
                safe_set_full_optimizer_state(parameter, state[key].to(self.device), key)

    def squares(self, parameters: Sequence[nn.Parameter]) -> list[float]:
        if not self.shards_weights:
            return super().squares(parameters)
        held: list[Any] = list(parameters)
        return self.add_up([float(p.ds_tensor[: self._held(p)].double().square().sum()) for p in held])

    def close(self) -> None:
        if self.wrapped is not None:
            self.wrapped.destroy()
        super().close()

    def _held(self, parameter: Any) -> int:
        """How many of a weight's elements this rank holds; the last ranks' parts are filled up to equal lengths."""
        length = parameter.ds_tensor.numel()
        return max(0, min(int(length), int(parameter.ds_numel) - self.rank * int(length)))

    def _part(self, parameter: Any, value: Tensor) -> Tensor:
        """This rank's part of a tensor that every rank has whole, on the device, filled up with zeros."""
        part = torch.zeros(parameter.ds_tensor.numel(), dtype=value.dtype, device=self.device)
        start, count = self.rank * len(part), self._held(parameter)
        part[:count] = value.flatten()[start : start + count]
        return part

    def _flat_states(self) -> list[dict[str, Tensor]]:
        """The optimizer's states of the flat fp32 tensors that it really steps; made where there are none yet."""
        zero, inner = self.optimizer, self.optimizer.optimizer
        flats = zero.fp32_partitioned_groups_flat if self.shards_weights else zero.single_partition_of_fp32_groups
        for flat in flats:
            if not inner.state[flat]:
                device = flat.device if inner.defaults.get("fused") else torch.device("cpu")
                inner.state[flat] = {"step": torch.zeros((), device=device)}
                inner.state[flat] |= {key: torch.zeros_like(flat) for key in _MOMENTS}
        if not self.shards_weights:
            zero._lazy_init_hp_params_optimizer_state()
        return [inner.state[flat] for flat in flats]


_MOMENTS = ("exp_avg", "exp_avg_sq")


class _Callable(torch.nn.Module):
    """What the engine calls: stage 3 gathers weights for what runs inside a call, so `score` must be one too.

    Autocast is entered here because the engine turns off one that was entered outside it.
    """

    def __init__(self, module: Any, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.module = module
        self.arithmetic = arithmetic

    def forward(self, batch: Any, *, score: bool = False) -> Any:
        with self.arithmetic.autocast():
            return self.module.score(batch) if score else self.module(batch)


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()
