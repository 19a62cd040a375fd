"""What the headers of weights say, held against what loading really takes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from azft.data.weight_headers import StoredWeight, loading, stored_weights
from azft.training import models
from tests.training.technique_rows import row
from tests.training.tiny import tiny_model

WEIGHTS = [StoredWeight("BF16", (1000, 64)), StoredWeight("F32", (64,)), StoredWeight("I64", (1, 9))]


@pytest.mark.parametrize(
    ("which", "precision", "whole", "weights", "result"),
    [
        ("full", "bf16", 256_000, 256_256, 128_256),
        ("freeze", "fp32", 256_000, 256_256, 256_000),
        ("lora-pissa", "bf16", 256_000, 256_256, 256_000),
        ("lora", "fp32", 256_000, 256_256, 256_000),
        ("lora", "bf16", 128, 128_128, 128),
        ("lora", "fp16", 128_128, 128_128, 128_128),
        ("qlora", "bf16", 36_036, 36_036, 36_036),
    ],
)
def test_a_converted_model_takes_memory_and_a_view_of_its_files_takes_none(
    which: str, precision: str, whole: int, weights: int, result: int
) -> None:
    need = loading(WEIGHTS, row(which), precision)
    assert (need.whole, need.weights, need.result) == (whole, weights, result)
    assert need.most(gathers=False) == whole
    assert need.most(gathers=True) == max(whole, result)


def in_no_file(model: Any) -> int:
    """Bytes of a model's weights that are not pages of safetensors files."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(".safetensors")]
    mapped = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    own = (p for p in model.parameters() if not any(start <= p.data_ptr() < end for start, end in mapped))
    return sum(parameter.nbytes for parameter in own)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux says what a process has mapped")
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float32, "fp32"), (torch.bfloat16, "bf16")])
def test_loading_takes_what_is_foretold(dtype: torch.dtype, precision: str, tmp_path: Path) -> None:
    """That transformers maps what it need not convert is no promise of its; this fails when it stops."""
    tiny_model("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    stored = stored_weights(tmp_path)
    model = models.load_model(tmp_path, dtype=dtype)
    assert sum(math.prod(shape) for _, shape in stored.values()) == sum(p.numel() for p in model.parameters())
    assert in_no_file(model) == loading(stored.values(), row("lora"), precision).whole
