"""Every task under every technique: its gradient is the naive one, and its result is written, loaded back and merged.

What can't work is refused with a reason before anything moves. The table in docs/matrix.md is these cells' outcomes;
`make docs` writes it anew.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from azft.errors import UsageError
from azft.parameters import EvaluateParameters, FinetuneParameters, PackageParameters
from azft.tasks import TASKS
from azft.training.checkpoints import CheckpointFolder
from azft.training.devices import arithmetic
from azft.training.distribution import SingleProcess
from azft.training.evaluate import evaluate
from azft.training.finetune import finetune
from azft.training.loop import Loop
from azft.training.metrics import Metrics
from azft.training.models import load_model
from azft.training.objectives import OBJECTIVES
from azft.training.package import package
from azft.training.schedule import Timetable
from azft.training.techniques import TrainingData, prepare
from tests.matrix.cells import ROWS, Bench, Cell, cells
from tests.matrix.naive import mean_loss
from tests.matrix.outcomes import REFUSED, page
from tests.training.tiny import Float64, gradients, worst_difference

EXACT = 1e-6
"""Relative difference of gradients in float64."""
QUANTISED = 1e-3
"""In fp32, the widest type that 4-bit kernels compute in, whose rounding a stand-in's norms multiply by 200."""
CPU = torch.device("cpu")
CELLS = list(cells())
SHOWN = [c for c in CELLS if (c.task, c.kind) in {("chat-completion", "decoder"), ("translation", "encoder-decoder"),
         ("text-classification", "encoder"), ("preference-tuning", "decoder"),
         ("text-to-image", "diffusion")}]  # fmt: skip
"""Cells that go to the end in the fast tier: one task of each way to measure and package. The others do in the slow."""


def test_every_task_has_rows_here() -> None:
    assert set(ROWS) == set(TASKS)


def test_the_table_in_the_docs_is_of_these_outcomes() -> None:
    assert set(REFUSED) <= {str(cell) for cell in CELLS}
    docs = Path(__file__).parent.parent.parent / "docs"
    assert (docs / "matrix.md").read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_cell(cell: Cell, bench: Bench, tmp_path: Path) -> None:
    refused = REFUSED.get(str(cell))
    if refused:
        with pytest.raises(UsageError) as caught:
            train(cell, bench, tmp_path)
        assert (caught.value.message, bool(caught.value.fix)) == (refused, True)
        assert not (tmp_path / "trained").exists()
        return
    the_gradient_is_the_naive_one(cell, bench, tmp_path)
    train(cell, bench, tmp_path)
    if cell in SHOWN:
        measure_and_package(cell, bench, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("cell", [c for c in CELLS if c not in SHOWN and str(c) not in REFUSED], ids=str)
def test_a_cell_to_the_end(cell: Cell, bench: Bench, tmp_path: Path) -> None:
    train(cell, bench, tmp_path)
    measure_and_package(cell, bench, tmp_path)


def measure_and_package(cell: Cell, bench: Bench, tmp_path: Path) -> None:
    """The steps after training, on what it left in `tmp_path`."""
    model, dataset = bench.model(cell.kind), bench.dataset(cell)
    recipe = cell.recipe()
    evaluate(
        EvaluateParameters.of(recipe), model=model, dataset=dataset, trained=tmp_path / "trained",
        output=tmp_path / "evaluation",
    )  # fmt: skip
    figures = orjson.loads((tmp_path / "evaluation" / "evaluation.json").read_bytes())
    assert set(figures["base"]) == set(figures["tuned"]) >= {TASKS[cell.task].metrics[0]}
    assert figures["base"] != figures["tuned"]
    package(
        PackageParameters.of(recipe), model=model, trained=tmp_path / "trained", evaluation=tmp_path / "evaluation",
        output=tmp_path / "packaged",
    )  # fmt: skip
    assert (tmp_path / "packaged" / "README.md").is_file()


def train(cell: Cell, bench: Bench, folder: Path) -> None:
    """Two steps; the finetune step itself loads what it wrote and compares it."""
    finetune(
        FinetuneParameters.of(cell.recipe(learning_rate=1e-2)), model=bench.model(cell.kind),
        dataset=bench.dataset(cell), trained=folder / "trained", checkpoints=folder / "checkpoints",
        metrics=folder / "metrics",
    )  # fmt: skip


def the_gradient_is_the_naive_one(cell: Cell, bench: Bench, folder: Path) -> None:
    exact = cell.technique != "qlora"
    with Float64() if exact else nullcontext():
        model, base = ready(cell, bench, exact=exact)
        dataset, objective = bench.train(cell), OBJECTIVES[bench.train(cell).objective]
        settings = FinetuneParameters.of(cell.recipe(global_batch_size=len(dataset) * 2)).training
        beta = settings.dpo_beta
        module = objective.make(model, False)
        if objective.reference is not None:
            module.against(objective.reference(base, [dataset], arithmetic("fp32", CPU)), beta)
        loop = Loop(
            module,
            objective=objective,
            training=settings,
            timetable=Timetable.of(settings, sequences=len(dataset)),
            arithmetic=arithmetic("fp32", CPU),
            ranks=SingleProcess(),
            train=dataset,
            validation=None,
            checkpoints=CheckpointFolder(folder / "none", identity={}, keep=1),
            metrics=Metrics(folder / "none", enabled=False),
        )
        module.eval()
        losses, _ = loop.accumulate(list(range(len(dataset))))
        batched = gradients(model)

        naive, base = ready(cell, bench, exact=exact)
        for one in (naive, base):
            inner = one.get_base_model() if hasattr(one, "get_base_model") else one
            if cell.kind != "diffusion":
                inner.set_attn_implementation("eager")
        expected = mean_loss(naive, base, dataset, beta)
        expected.backward()
        tolerance = EXACT if exact else QUANTISED
        told = int(dataset.label_counts.sum())
        assert sum(loss for _, loss in losses) / told == pytest.approx(float(expected), rel=tolerance)
        assert worst_difference(gradients(naive), batched) < tolerance


def ready(cell: Cell, bench: Bench, *, exact: bool) -> tuple[Any, Any]:
    """The cell's model with its technique, moved off its start (where half of the gradients are zero); and the base."""
    dataset, technique = bench.train(cell), cell.recipe().technique
    torch.manual_seed(3)
    model = load_model(
        bench.model(cell.kind),
        head=OBJECTIVES[dataset.objective].head,
        labels=dataset.labels,
        dtype=torch.float64 if exact else torch.float32,
        quantization=None if exact else technique,
    )
    base = copy.deepcopy(model)
    torch.manual_seed(4)
    model = prepare(model, technique, TrainingData(dataset, 0, CPU))
    if exact:
        model = model.double()
    random = np.random.default_rng(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                away = random.standard_normal(tuple(parameter.shape)) * (0.05 if exact else 0.005)
                parameter.add_(torch.from_numpy(away).to(parameter))
    return model.eval(), base.eval()
