"""What a checkpoint holds: trained weights, optimizer state and random numbers, to tensors and back, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch

from azft.errors import AzftError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from azft.training.distribution import SingleProcess


_AT_A_TIME = 2 << 30
"""Bytes of a checkpoint's tensors that are gathered, and written as one file, before the next."""


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that move, by name; tied ones once."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def tensors(module: nn.Module, ranks: SingleProcess) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """All that a checkpoint holds besides counters, as (name, some of the tensors called so), on rank 0.

    Every rank must go through it, because all take part in gathering; the others get nothing. So rank 0 never has more
    in memory than `_AT_A_TIME` and one tensor.
    """
    yield from (("weights", some) for some in _some_at_a_time(weights(module, ranks)))
    yield from (("optimizer", some) for some in _some_at_a_time(optimizer_state(module, ranks)))
    random = random_state(ranks)
    if ranks.is_main:
        yield "random", random


def _some_at_a_time(named: Iterable[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    some: dict[str, Tensor] = {}
    size = 0
    for name, tensor in named:
        some[name] = tensor
        size += tensor.nbytes
        if size >= _AT_A_TIME:
            yield some
            some, size = {}, 0
    if some:
        yield some


def weights(module: nn.Module, ranks: SingleProcess) -> Iterator[tuple[str, Tensor]]:
    """Names and copies on the CPU of the weights that move, whole; on rank 0 only, but every rank takes part."""
    if ranks.is_main or ranks.shards_weights:
        for name, parameter in trained_parameters(module).items():
            value = ranks.whole_weight(parameter)
            if ranks.is_main:
                yield name, value


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], ranks: SingleProcess) -> None:
    """Set the weights that move, bit for bit."""
    parameters = trained_parameters(module)
    if parameters.keys() != tensors.keys():
        raise RuntimeError(f"the checkpoint has other weights: {sorted(parameters.keys() ^ tensors.keys())[:3]}")
    for name, parameter in parameters.items():
        ranks.set_weight(parameter, tensors[name])


def optimizer_state(module: nn.Module, ranks: SingleProcess) -> Iterator[tuple[str, Tensor]]:
    """Everything the optimizer remembers, whole, named `<weight>/<name>`; where and how as `weights`."""
    if ranks.is_main or ranks.shards_state:
        for name, parameter in trained_parameters(module).items():
            state = ranks.whole_state(parameter)
            if ranks.is_main:
                yield from ((f"{name}/{key}", value) for key, value in state.items())


def load_optimizer_state(module: nn.Module, tensors: Mapping[str, Tensor], ranks: SingleProcess) -> None:
    """Set what the optimizer remembers, bit for bit."""
    keys: dict[str, list[str]] = {}
    for name in tensors:
        weight, _, key = name.rpartition("/")
        keys.setdefault(weight, []).append(key)
    for name, parameter in trained_parameters(module).items():
        if name in keys:
            ranks.set_state(parameter, {key: tensors[f"{name}/{key}"] for key in keys[name]})


def gather_into(fresh: nn.Module | None, trained: nn.Module, ranks: SingleProcess) -> None:
    """Put the trained weights, whose parts the ranks hold, into a model that is whole; None on ranks that have none.

    That nothing got lost on the way is known from the sum of each weight's squares: the one over the ranks' parts,
    which no gathering touched, must be the one over what was gathered.

    Raises:
        AzftError: Weights are missing, have another shape, or are not those that the ranks hold.
    """
    parts = trained_parameters(trained)
    squares = dict(zip(parts, ranks.squares(list(parts.values())), strict=True))
    targets = None if fresh is None else trained_parameters(fresh)
    if targets is not None and targets.keys() != parts.keys():
        raise _not_gathered(min(targets.keys() ^ parts.keys()), "it is in one of the two models only")
    for name, parameter in parts.items():
        value = ranks.whole_weight(parameter)
        if targets is None:
            continue
        if value.shape != targets[name].shape:
            raise _not_gathered(name, f"its shape is {tuple(value.shape)}, not {tuple(targets[name].shape)}")
        found = float(value.double().square().sum())
        if not math.isclose(found, squares[name], rel_tol=1e-9):
            raise _not_gathered(name, f"the sum of its squares is {found:.9g}, and {squares[name]:.9g} over the ranks")
        targets[name].data.copy_(value)


def _not_gathered(name: str, why: str) -> AzftError:
    return AzftError(
        f"The trained weight {name} was not gathered from the ranks as they hold it: {why}. Nothing was written.",
        fix="The last checkpoint is whole: run again with distribution.strategy: ddp to resume from it.",
    )


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
