"""A translation by an encoder-decoder, from rows to the packaged model that is talked to."""

from __future__ import annotations

import json
from pathlib import Path

import orjson

from azft.catalog.rows import load_catalog
from azft.chat import _asking
from azft.data.prepare import prepare
from azft.parameters import EvaluateParameters, FinetuneParameters, PackageParameters, PrepareParameters
from azft.recipe import Recipe
from azft.training.evaluate import evaluate
from azft.training.finetune import finetune
from azft.training.generate import load_chat
from azft.training.package import package
from azft.training.stand_in import StandInSpec, make

PAIRS = [("good morning", "guten Morgen"), ("thank you", "danke"), ("the old map", "die alte Karte")]
RECIPE = {
    "name": "german",
    "task": "translation",
    "model": "tiny-t5",
    "data": {"train": "train.jsonl", "prompt": "Into German: {source}"},
    "technique": {"name": "lora", "rank": 16, "alpha": 64},
    "training": {
        "max_steps": 60,
        "eval_steps": 60,
        "save_steps": 60,
        "global_batch_size": 3,
        "max_length": 64,
        "precision": "fp32",
        "learning_rate": 2e-3,
    },
    "evaluation": {"samples": 2, "generate_rows": 3, "max_new_tokens": 12},
}


def test_what_was_learned_by_heart_is_written_and_measured(tmp_path: Path) -> None:
    rows = [{"source": source, "target": target} for source, target in PAIRS]
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    family = load_catalog().families["t5"]
    sizes = {"hidden_size": 64, "layers": 1, "intermediate_size": 64, "vocab_size": 300}
    spec = {"architecture": "T5ForConditionalGeneration", "special_tokens": family.special_tokens, **sizes}
    base = tmp_path / "base"
    make(StandInSpec.model_validate({**spec, "data": data, "data_sha256": ""}), base)
    recipe = Recipe.model_validate(RECIPE)
    files = {"model": base, "dataset": tmp_path / "dataset", "trained": tmp_path / "trained"}
    prepare(
        PrepareParameters.of(recipe), model=base, train=data, validation=data, output=files["dataset"], progress=len
    )
    finetune(FinetuneParameters.of(recipe), **files, checkpoints=tmp_path / "c", metrics=tmp_path / "m")
    evaluate(EvaluateParameters.of(recipe), **files, output=tmp_path / "evaluation")
    figures = orjson.loads((tmp_path / "evaluation/evaluation.json").read_bytes())
    assert (figures["generated_rows"], figures["tuned"]["token_accuracy"]) == (3, 1)
    assert figures["base"]["chrf"] < 50
    assert figures["tuned"]["chrf"] > 99.9
    samples = [orjson.loads(line) for line in (tmp_path / "evaluation/samples.jsonl").read_bytes().splitlines()]
    assert [sample["tuned"] for sample in samples] == [target for _, target in PAIRS[:2]]
    assert samples[0]["prompt"] == "Into German: good morning</s>"
    package(
        PackageParameters.of(recipe),
        model=base,
        trained=files["trained"],
        evaluation=tmp_path / "evaluation",
        output=tmp_path / "packaged",
    )
    card = (tmp_path / "packaged/README.md").read_text()
    assert "pipeline_tag: translation" in card
    assert "| chrf |" in card
    chat = load_chat(tmp_path / "packaged", **_asking(recipe.model_dump(mode="json")))
    assert "".join(chat.reply([{"role": "user", "content": "the old map"}], max_new_tokens=12)) == "die alte Karte"
