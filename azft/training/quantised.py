"""QLoRA's base: linear weights in 4 bits by bitsandbytes, on GPUs and on the CPU alike, everything else as it is."""

from __future__ import annotations

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
