"""What a checkpoint holds: trained weights, optimizer state and random numbers, to tensors and back, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from azft.training.distribution import SingleProcess


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that move, by name; tied ones once."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def weights(module: nn.Module) -> dict[str, Tensor]:
    """Copies on the CPU of the weights that move."""
    return {name: p.detach().cpu().contiguous() for name, p in trained_parameters(module).items()}


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Set the weights that move, bit for bit."""
    parameters = trained_parameters(module)
    if parameters.keys() != tensors.keys():
        raise RuntimeError(f"the checkpoint has other weights: {sorted(parameters.keys() ^ tensors.keys())[:3]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def optimizer_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Everything the optimizer remembers, as `<weight>/<name>`: for AdamW both moments and the step."""
    return {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, parameter in trained_parameters(module).items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_state(module: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Set what the optimizer remembers, bit for bit."""
    parameters = trained_parameters(module)
    for name, value in tensors.items():
        parameter_name, _, key = name.rpartition("/")
        parameter = parameters[parameter_name]
        # AdamW keeps its step counter on the CPU unless it is fused or capturable; moments lie beside the weights.
        device = parameter.device if value.dim() > 0 or _fused(optimizer) else torch.device("cpu")
        optimizer.state[parameter][key] = value.to(device)


def _fused(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.defaults.get("fused"))


def random_state(ranks: SingleProcess) -> dict[str, Tensor]:
    """The state of torch's random numbers on every rank, CPU and GPU."""
    states = {"cpu": torch.get_rng_state()}
    if ranks.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(ranks.device)
    return {f"{kind}.{rank}": s for kind, mine in states.items() for rank, s in enumerate(ranks.gather(mine))}


def load_random_state(ranks: SingleProcess, tensors: Mapping[str, Tensor]) -> bool:
    """Set this rank's random numbers; False, and nothing done, where the checkpoint has none for such a rank."""
    if f"cpu.{ranks.rank}" not in tensors or f"cpu.{ranks.ranks}" in tensors:
        return False
    torch.set_rng_state(tensors[f"cpu.{ranks.rank}"])
    if ranks.device.type == "cuda" and f"cuda.{ranks.rank}" in tensors:
        torch.cuda.set_rng_state(tensors[f"cuda.{ranks.rank}"], ranks.device)
    return True


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed torch; ranks draw different dropout masks. 2**32 keeps every (seed, rank) apart."""
    torch.manual_seed(seed + (rank << 32))
