"""Every objective on every kind of model, on two ranks that share it in each way, is trained as one process trains it.

Each rank is a forked child. With every technique on a decoder it is shown in tests/training/test_technique_ranks.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from azft.parameters import FinetuneParameters
from azft.recipe import Distribution
from azft.tasks import TASKS
from tests.matrix.cells import Bench, Cell, cells
from tests.training.ranked import assert_same_training, train

STRATEGIES: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "fsdp": {"strategy": "fsdp"},
    "zero-2": {"strategy": "deepspeed", "zero_stage": 2},
    "zero-3": {
        "strategy": "deepspeed",
        "zero_stage": 3,
        "config": {"zero_optimization": {"stage3_param_persistence_threshold": 0}},
    },
}


def objectives() -> list[Cell]:
    """A cell of full and of LoRA training for each rendering of rows on each kind of model."""
    chosen: dict[tuple[Any, str, str], Cell] = {}
    for cell in cells():
        if cell.technique in ("full", "lora"):
            rendering = TASKS[cell.task].rendering_for(cell.kind)
            chosen.setdefault((rendering, cell.kind, cell.technique), cell)
    return list(chosen.values())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of one process are, by cell."""
    return tmp_path_factory.mktemp("alone")


_DROPOUT = ("attention_dropout", "attention_probs_dropout_prob", "dropout_rate", "hidden_dropout_prob", "resid_pdrop")
"""What the three kinds of models call it; it is there by default."""


def without_dropout(model: Path, folder: Path) -> Path:
    """A copy of a model that draws no random numbers: ranks would draw others than one process does."""
    copy = folder / model.name
    if not copy.exists():
        shutil.copytree(model, copy)
        file = copy / "config.json"
        if file.exists():  # one that paints has none, and no dropout
            file.write_text(json.dumps(json.loads(file.read_text()) | dict.fromkeys(_DROPOUT, 0.0)))
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("cell", objectives(), ids=str)
def test_two_ranks_train_a_cell_as_one_does(
    cell: Cell, strategy: str, bench: Bench, alone: Path, tmp_path: Path
) -> None:
    what = FinetuneParameters.of(cell.recipe(learning_rate=1e-3, adam_epsilon=1e-2, micro_batch_size=1))
    inputs = {"model": without_dropout(bench.model(cell.kind), alone), "dataset": bench.dataset(cell)}
    folder = alone / str(cell)
    shared = what.model_copy(update={"distribution": Distribution.model_validate(STRATEGIES[strategy])})
    if any(TASKS[cell.task].refusals(shared.technique, shared.distribution)):
        assert train(tmp_path, inputs, shared) == [1, 1]
        return
    if not folder.exists():
        assert train(folder, inputs, what, ranks=1) == [0]
    assert train(tmp_path, inputs, shared) == [0, 0]
    assert_same_training(folder, tmp_path, rel=5e-5)
