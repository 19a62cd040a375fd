"""bf16 and fp16 are autocast over fp32 masters: close to fp32, and what is saved is what was trained.

fp16 scales its losses besides: an overflow costs a step's update and nothing else, on one rank or several.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from azft.training.devices import arithmetic
from azft.training.distribution.single import SingleProcess
from azft.training.finetune import finetune
from azft.training.loop import Loop, NonFiniteError, Progress
from azft.training.loss_scale import LossScale
from tests.training.ranked import kill_all_before_step, metrics, result, train
from tests.training.tiny import parameters, save_model, tiny_dataset


def begin_with(patch: pytest.MonkeyPatch, factor: float) -> None:
    """Let a run's losses be scaled by so much at first."""
    run = Loop.run

    def scaled(self: Loop, progress: Progress, *rest: Any) -> Any:
        return run(self, progress if progress.step else replace(progress, loss_scale=factor), *rest)

    patch.setattr(Loop, "run", scaled)


@pytest.mark.parametrize("technique", [{"name": "full"}, {"name": "lora", "rank": 4}], ids=["full", "lora"])
def test_half_precisions_train_close_to_fp32(
    technique: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_with(monkeypatch, 2.0**8)  # no overflow, so that fp16 makes every update that the others make
    model = save_model(tmp_path / "model", "gemma2")
    dataset = tiny_dataset(tmp_path / "data")
    losses = {}
    for precision in ("fp32", "bf16", "fp16"):
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
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=5e-3)  # three more bits
    assert losses["fp32"] != losses["bf16"] != losses["fp16"] != losses["fp32"]


def test_auto_takes_bf16_only_where_the_hardware_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has_it, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has_it=has_it: has_it)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert arithmetic("auto", cpu).precision == expected
    assert arithmetic("bf16", cpu).precision == "bf16"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return {"model": save_model(folder / "model"), "dataset": tiny_dataset(folder / "dataset", count=12)}


def fp16(**more: Any) -> Any:
    values = {"precision": "fp16", "max_steps": 6, "save_steps": 1, "global_batch_size": 3, "adam_epsilon": 1e-2}
    return parameters(**(values | more))


def test_an_overflow_updates_nothing_and_halves_the_scale(inputs: dict[str, Path], tmp_path: Path) -> None:
    def arrange(_rank: int, patch: pytest.MonkeyPatch) -> None:
        begin_with(patch, 2.0**24)

    assert train(tmp_path, inputs, fp16(save_total_limit=9), ranks=1, arrange=arrange) == [0]
    lines = [line for line in metrics(tmp_path) if "loss" in line]
    overflows = [line["grad_norm"] is None for line in lines]
    count = sum(overflows)
    assert 0 < count < len(lines)
    assert overflows == [True] * count + [False] * (len(lines) - count)
    scales = [2.0**23 / 2**n for n in range(count)]
    assert [line["loss_scale"] for line in lines] == scales + [scales[-1]] * (len(lines) - count)
    checkpoints = [(tmp_path / f"checkpoints/step-0000000{n}/weights.safetensors").read_bytes() for n in range(1, 7)]
    assert len(set(checkpoints[:count])) == 1
    assert len(set(checkpoints[count - 1 :])) == len(lines) - count + 1


def test_the_scale_is_part_of_a_checkpoint(inputs: dict[str, Path], tmp_path: Path) -> None:
    def arrange(_rank: int, patch: pytest.MonkeyPatch) -> None:
        begin_with(patch, 2.0**24)

    def dying(rank: int, patch: pytest.MonkeyPatch) -> None:
        arrange(rank, patch)
        kill_all_before_step(2)(rank, patch)

    assert train(tmp_path / "whole", inputs, fp16(), ranks=1, arrange=arrange) == [0]
    assert train(tmp_path / "killed", inputs, fp16(), ranks=1, arrange=dying) == [-9]
    assert train(tmp_path / "killed", inputs, fp16(), ranks=1) == [0]
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        "ddp",
        "fsdp",
        {"strategy": "deepspeed", "zero_stage": 1},
        {"strategy": "deepspeed", "zero_stage": 2},
        {"strategy": "deepspeed", "zero_stage": 3},
        {"strategy": "deepspeed", "zero_stage": 2, "offload": "optimizer"},
    ],
    ids=lambda one: one if isinstance(one, str) else "-".join(map(str, one.values())),
)
def test_two_ranks_overflow_and_train_as_one_does(
    strategy: str | dict[str, Any], inputs: dict[str, Path], tmp_path: Path
) -> None:
    def arrange(_rank: int, patch: pytest.MonkeyPatch) -> None:
        begin_with(patch, 2.0**24)

    assert train(tmp_path / "one", inputs, fp16(), ranks=1, arrange=arrange) == [0]
    assert train(tmp_path / "two", inputs, fp16(strategy=strategy), arrange=arrange) == [0, 0]
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert [line.get("loss_scale") for line in two] == [line.get("loss_scale") for line in one]
    for key in ("loss", "grad_norm", "eval_loss"):
        values = [[line[key] or 0.0 for line in lines if key in line] for lines in (one, two)]
        assert values[1] == pytest.approx(values[0], rel=1e-3)


def test_the_scale_grows_when_nothing_overflowed_for_long() -> None:
    scale = LossScale(8.0)
    for _ in range(1999):
        scale = scale.after(updated=True)
    assert scale.factor == 8.0
    scale = scale.after(updated=True)
    assert scale == LossScale(16.0)
    assert scale.after(updated=True).after(updated=False) == LossScale(8.0)


def test_a_gradient_that_no_scale_makes_finite_stops_the_run(
    inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SingleProcess, "_total_norm", lambda self, gradients: torch.tensor(math.inf))
    begin_with(monkeypatch, 2.0)
    folders = {name: tmp_path / name for name in ("trained", "checkpoints", "metrics")}
    with pytest.raises(NonFiniteError, match="Step 3"):
        finetune(fp16(), **inputs, **folders)
