"""QLoRA's base: linear weights in 4 bits by bitsandbytes, on GPUs and on the CPU alike, everything else as it is."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from azft.extras import needs
from azft.techniques import Qlora
from azft.training import adapters


def configuration(technique: Qlora, skeleton: Any, dtype: torch.dtype) -> Any:
    """The settings with which transformers loads a model in 4 bits.

    Args:
        technique: What the recipe says.
        skeleton: The model without weights. The output head, what shares weights with it, and new heads are left out.
        dtype: Type of the matrix products, the run's own.

    Raises:
        MissingDependencyError: bitsandbytes is not installed.
    """
    with needs("quant", "technique qlora"):
        import bitsandbytes  # noqa: F401

    repair_dequantisation()

    from transformers import BitsAndBytesConfig
    from transformers.quantizers.base import get_keys_to_not_convert

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=technique.quantization,
        bnb_4bit_use_double_quant=technique.double_quantization,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=sorted({*get_keys_to_not_convert(skeleton), *adapters.new_heads(skeleton)}),
    )


def same_arithmetic(model: Any) -> None:
    """Keep bitsandbytes from packing weights anew for evaluation on CPUs with AVX512-BF16.

    It would compute in bf16 there whatever the run's type is, and training could not go on with those weights.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


_OPERATOR = "bitsandbytes::dequantize_4bit"
_BLOCK = 64
"""Weights that share a scale in `configuration`'s models."""


@functools.cache
def repair_dequantisation() -> bool:
    """Let bitsandbytes give 4-bit weights back rightly on CPUs with AVX-512; whether that was needed here.

    Its kernel for them (0.50) takes the scale of another block where the rows of a matrix are no multiple of a block
    long: weights are off by more than half of themselves. One row as long as the whole matrix is read rightly, so such
    a matrix is handed over as that.
    """
    if _dequantises_rows_over_blocks():
        return False
    kernel = torch.library.get_kernel(_OPERATOR, "CPU")

    def dequantise(
        keys: Any, packed: Any, scales: Any, block: int, kind: str, shape: Sequence[int], dtype: torch.dtype
    ) -> Any:
        handed = shape if shape[-1] % block == 0 else (1, prod(shape))
        return kernel.call_boxed(keys, packed, scales, block, kind, handed, dtype).reshape(shape)

    untyped: Any = torch.library
    library = untyped.Library("bitsandbytes", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel is replaced, which is meant
        library.impl("dequantize_4bit", dequantise, "CPU", with_keyset=True)
    _kept.append(library)
    assert _dequantises_rows_over_blocks()
    return True


_kept: list[Any] = []
"""A library's kernels are gone with the object."""


def _dequantises_rows_over_blocks() -> bool:
    """Whether a matrix whose rows are half a block longer than a block comes back as it does in one row."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    weights = torch.linspace(-1, 1, 4 * (_BLOCK + _BLOCK // 2)).reshape(4, -1) * torch.tensor([[1.0], [8], [2], [4]])
    packed, state = quantize_4bit(weights, blocksize=_BLOCK, quant_type="nf4")
    row, state_of_row = quantize_4bit(weights.reshape(1, -1), blocksize=_BLOCK, quant_type="nf4")
    return torch.equal(dequantize_4bit(packed, state).flatten(), dequantize_4bit(row, state_of_row).flatten())
