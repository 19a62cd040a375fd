"""Which device a rank computes on and in which arithmetic."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from azft.errors import UsageError

Precision = Literal["bf16", "fp16", "fp32"]
_COMPUTE: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Arithmetic:
    """`compute` is the type of matrix products (by autocast); masters of trained weights are always fp32."""

    device: torch.device
    precision: Precision

    @property
    def compute(self) -> torch.dtype:
        """The type in which frozen weights are kept and matrix products are made."""
        return _COMPUTE[self.precision]

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which forward passes run."""
        return nullcontext() if self.precision == "fp32" else torch.autocast(self.device.type, self.compute)

    @property
    def scales_loss(self) -> bool:
        """Whether small gradients would vanish: fp16 has no numbers between 0 and 6e-8."""
        return self.precision == "fp16"


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


def tell_deepspeed(device: torch.device) -> None:
    """Libraries import DeepSpeed where it is installed, and without this it warns that it had to guess the device."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)


def arithmetic(precision: Literal["auto", "bf16", "fp16", "fp32"], device: torch.device) -> Arithmetic:
    """`auto` is bf16 where the hardware multiplies it at full speed, else fp32; emulated bf16 is slower than fp32."""
    if precision == "auto":
        return Arithmetic(device, "bf16" if _has_fast_bf16(device) else "fp32")
    return Arithmetic(device, precision)


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere; V100 and T4 only emulate it
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe)() for probe in probes if hasattr(torch.cpu, probe))
