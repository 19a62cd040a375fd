"""Every technique on two ranks, however they share the work, computes what one process computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.ranked import assert_same_training, train
from tests.training.technique_rows import ROWS
from tests.training.tiny import parameters, save_model, tiny_dataset

STRATEGIES: dict[str, Any] = {
    "ddp": "ddp",
    "fsdp": "fsdp",
    "zero-2": {"strategy": "deepspeed", "zero_stage": 2},
    # DeepSpeed keeps small weights whole in stage 3; every one of a tiny model's would be.
    "zero-3": {
        "strategy": "deepspeed",
        "zero_stage": 3,
        "config": {"zero_optimization": {"stage3_param_persistence_threshold": 0}},
    },
}
WHICH = ["freeze", "lora-pissa", "lora-eva", "lora-head", "dora", "qlora", "ia3"]
WHICH += ["prompt-tuning", "prefix-tuning", "p-tuning"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    dataset = tiny_dataset(folder / "dataset", count=23, validation=9)
    return {"model": save_model(folder / "model"), "dataset": dataset}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of one process are, by technique."""
    return tmp_path_factory.mktemp("alone")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("which", WHICH)
def test_two_ranks_compute_what_one_does(
    which: str, strategy: str, inputs: dict[str, Path], alone: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"max_steps": 3, "eval_steps": 3, "global_batch_size": 4, "adam_epsilon": 1e-3}
    if not (alone / which).exists():
        assert train(alone / which, inputs, parameters(technique=ROWS[which], **settings), ranks=1) == [0]
    shared = parameters(technique=ROWS[which], strategy=STRATEGIES[strategy], **settings)
    assert train(tmp_path, inputs, shared) == [0, 0]
    assert_same_training(alone / which, tmp_path)
