"""LoRA that starts from its inputs, on models whose modules see them in other ways than a decoder's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from azft.errors import UsageError
from azft.parameters import FinetuneParameters
from azft.training.finetune import finetune
from tests.matrix.cells import Bench, Cell


def train(task: str, kind: str, rank: int, bench: Bench, folder: Path) -> None:
    cell = Cell(task, kind, "lora")
    recipe: Any = cell.recipe()
    technique = recipe.technique.model_copy(update={"init": "eva", "rank": rank})
    finetune(
        FinetuneParameters.of(recipe.model_copy(update={"technique": technique})), model=bench.model(kind),
        dataset=bench.dataset(cell), trained=folder / "trained", checkpoints=folder / "checkpoints",
        metrics=folder / "metrics",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("task", "kind"),
    [("preference-tuning", "decoder"), ("text-classification", "encoder"), ("translation", "encoder-decoder")],
)
def test_it_starts_from_whatever_a_module_sees(task: str, kind: str, bench: Bench, tmp_path: Path) -> None:
    train(task, kind, 4, bench, tmp_path)
    assert (tmp_path / "trained" / "adapter_model.safetensors").is_file()


def test_too_few_documents_for_a_pooler_are_refused_and_not_waited_for(bench: Bench, tmp_path: Path) -> None:
    """BERT's pooler sees one vector of each of the eight documents, and rank 8 wants sixteen at a time."""
    with pytest.raises(UsageError, match="eva needs batches of at least 16"):
        train("text-classification", "encoder", 8, bench, tmp_path)


def test_a_module_that_too_few_inputs_reach_is_named(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azft.training import techniques

    def token_by_token(data: techniques.TrainingData, least: int) -> Any:
        objective = techniques.OBJECTIVES[data.dataset.objective]
        yield objective.batch_of(data.dataset, range(4)).to(data.device).model_inputs

    monkeypatch.setattr(techniques.TrainingData, "batches", token_by_token)
    with pytest.raises(UsageError, match=r"`bert\.pooler\.dense` sees 4"):
        train("text-classification", "encoder", 4, bench, tmp_path)
