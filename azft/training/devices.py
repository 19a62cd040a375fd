"""Which device a rank computes on and in which arithmetic."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from azft.errors import UsageError

Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True)
class Arithmetic:
    """`compute` is the type of matrix products (by autocast); masters of trained weights are always fp32."""

    device: torch.device
    precision: Precision

    @property
    def compute(self) -> torch.dtype:
        """The type in which frozen weights are kept and matrix products are made."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which forward passes run."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()


def pick_device(local_rank: int = 0) -> torch.device:
    """The CUDA device of this rank where there is one, else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise UsageError(
            f"Rank {local_rank} of this node has no GPU: there are {torch.cuda.device_count()}.",
            fix="Start as many processes per node as it has GPUs.",
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def arithmetic(precision: Literal["auto", "bf16", "fp32"], device: torch.device) -> Arithmetic:
    """`auto` is bf16 where the hardware multiplies it at full speed, else fp32; emulated bf16 is slower than fp32."""
    if precision == "auto":
        return Arithmetic(device, "bf16" if _has_fast_bf16(device) else "fp32")
    return Arithmetic(device, precision)


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere; V100 and T4 only emulate it
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe)() for probe in probes if hasattr(torch.cpu, probe))
