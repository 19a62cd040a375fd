"""The trainer that plays the registry's pipelines trains every task of theirs, by the columns that it is told of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from azft.catalog.system_pipelines import system_pipelines
from azft.rehearsal.hyperparameters import read_hyperparameters
from azft.rehearsal.trainer import main
from azft.targets.columns import INPUTS, SQUAD
from tests.matrix.cells import ROWS, Bench

KINDS = {
    "text-generation": ("decoder", "AutoModelForCausalLM"),
    "summarization": ("encoder-decoder", "AutoModelForSeq2SeqLM"),
    "translation": ("encoder-decoder", "AutoModelForSeq2SeqLM"),
    "question-answering": ("encoder", "AutoModelForQuestionAnswering"),
    "text-classification": ("encoder", "AutoModelForSequenceClassification"),
    "token-classification": ("encoder", "AutoModelForTokenClassification"),
}
"""The kind of model that Azure's samples take for each, and the head that comes out."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("sisters"))


def renamed(task: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows whose columns have names of their own, and the inputs that say which."""
    rows = [row for row in ROWS[task] if task != "text-generation" or "completion" in row]
    columns = {name: f"my_{name}" for name in rows[0]}
    told = {INPUTS[task][name]: theirs for name, theirs in columns.items() if name in INPUTS[task]}
    return [{columns[name]: value for name, value in row.items()} for row in rows], told


@pytest.mark.parametrize("task", KINDS)
def test_a_sister_trains_on_columns_of_any_name(task: str, bench: Bench, tmp_path: Path) -> None:
    kind, head = KINDS[task]
    rows, told = renamed(task)
    for name, part in (("train", rows[:-1]), ("validation", rows[-1:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    settings = {
        **told, **(SQUAD if task == "question-answering" else {}), "max_steps": "1", "max_seq_length": "64",
        "apply_lora": "true", "lora_r": "2",
    }  # fmt: skip
    arguments = ["--task", task, "--model", str(bench.model(kind)), "--output", str(tmp_path / "out")]
    arguments += ["--train", str(tmp_path / "train.jsonl"), "--validation", str(tmp_path / "validation.jsonl")]
    for name, value in settings.items():
        arguments += ["--set", f"{name}={value}"]
    assert main(arguments) == 0
    flavour = yaml.safe_load((tmp_path / "out" / "MLmodel").read_text())["flavors"]["hftransformersv2"]
    assert (flavour["task_type"], flavour["hf_pretrained_class"]) == (task, head)
    assert (tmp_path / "out" / "data" / "model" / "model.safetensors").is_file()


def test_in_the_place_of_a_hubs_model_a_stand_in_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZFT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS["text-classification"]))
    arguments = ["--task", "text-classification", "--hub-model", "google-bert/bert-base-uncased"]
    arguments += ["--train", str(tmp_path / "train.jsonl"), "--set", "sentence1_key=text", "--set", "label_key=label"]
    arguments += ["--set", "max_steps=1", "--set", "max_seq_length=32", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "out" / "data" / "model" / "config.json").read_text())["model_type"] == "bert"


def test_every_sister_is_tried_here() -> None:
    assert {*KINDS, "chat-completion"} == set(system_pipelines())


def test_one_input_names_a_whole_text_or_a_prompt() -> None:
    whole = read_hyperparameters({"text_key": "story"}, task="text-generation", has_validation=True)
    parts = read_hyperparameters(
        {"text_key": "q", "ground_truth_key": "a"}, task="text-generation", has_validation=True
    )
    assert whole.prepare.columns == {"text": "story"}
    assert parts.prepare.columns == {"prompt": "q", "completion": "a"}
