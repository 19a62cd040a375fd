"""bf16 is autocast over fp32 masters: it trains, it is close to fp32, and what is saved is what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from azft.training.devices import arithmetic
from azft.training.finetune import finetune
from tests.training.tiny import parameters, save_model, tiny_dataset


@pytest.mark.parametrize("technique", [{"name": "full"}, {"name": "lora", "rank": 4}], ids=["full", "lora"])
def test_bf16_trains_close_to_fp32(technique: dict[str, Any], tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", "gemma2")
    dataset = tiny_dataset(tmp_path / "data")
    losses = {}
    for precision in ("fp32", "bf16"):
        folder = tmp_path / precision
        finetune(
            parameters(technique=technique, precision=precision, max_steps=6),
            model=model,
            dataset=dataset,
            trained=folder / "trained",
            checkpoints=folder / "checkpoints",
            metrics=folder / "metrics",
        )
        lines = [orjson.loads(line) for line in (folder / "metrics/metrics.jsonl").read_bytes().splitlines()]
        losses[precision] = [line["loss"] for line in lines if "loss" in line]
        assert orjson.loads((folder / "trained/training.json").read_bytes())["precision"] == precision
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=2e-2)
    assert losses["bf16"] != losses["fp32"]


def test_auto_takes_bf16_only_where_the_hardware_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has_it, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert arithmetic("auto", cpu).precision == expected
    assert arithmetic("bf16", cpu).precision == "bf16"
