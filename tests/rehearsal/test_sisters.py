"""The trainer that plays the registry's pipelines trains every task of theirs, by the columns that it is told of.

The model then answers what azft asks Azure's own server.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from azft.azureml.scoring import scoring_of
from azft.catalog.system_pipelines import system_pipelines
from azft.chat import open_chat
from azft.emulator.scoring import score, served_model
from azft.emulator.serving import ModelServers
from azft.rehearsal.hyperparameters import read_hyperparameters
from azft.rehearsal.model_folder import plain_folder, task_of
from azft.rehearsal.server import serve
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
_BY_ITSELF = 64
"""Tokens that the emulator's server writes where it can't be told."""


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
    assert_it_answers(task, tmp_path / "out", ROWS[task][0], tmp_path)


def assert_it_answers(task: str, model: Path, row: dict[str, Any], folder: Path) -> None:
    """The row as azft writes it for Azure's own server, read by the emulator's, answered by the model, read by azft."""
    azft_side, azure_side = scoring_of(yaml.safe_load((model / "MLmodel").read_text())), served_model(model)
    assert azft_side is not None
    assert azure_side is not None
    row = {name: row[name] for name in azft_side.reads if name in row}
    row = row or {"prompt": "Today we bake"}
    body = json.loads(json.dumps(azft_side.body(row, max_new_tokens=_BY_ITSELF, temperature=0.0)))
    chat = open_chat(plain_folder(model, folder / "served"), task=task_of(model))

    def ask(self: ModelServers, asked: Path, request: dict[str, Any]) -> dict[str, Any]:
        assert asked == model
        answer = io.BytesIO()
        serve(chat, io.BytesIO(json.dumps(request).encode() + b"\n"), answer)
        return dict(json.loads(answer.getvalue()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelServers, "ask", ask)
        emu = SimpleNamespace(part=lambda kind: kind.__new__(kind))
        answer = azft_side.answer(score(emu, model, azure_side, body), row)  # type: ignore[arg-type]
    here = chat.ask(row, max_new_tokens=_BY_ITSELF).told
    told = {"label": here["label"]} if "label" in here else here  # Azure's own flavor keeps the score to itself
    assert answer.told == told


def test_in_the_place_of_a_hubs_model_a_stand_in_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZFT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS["text-classification"]))
    arguments = ["--task", "text-classification", "--hub-model", "google-bert/bert-base-uncased"]
    arguments += ["--train", str(tmp_path / "train.jsonl"), "--set", "sentence1_key=text", "--set", "label_key=label"]
    arguments += ["--set", "max_steps=1", "--set", "max_seq_length=32", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "out" / "data" / "model" / "config.json").read_text())["model_type"] == "bert"
    assert "signature" not in yaml.safe_load((tmp_path / "out" / "MLmodel").read_text())
    assert_it_answers("text-classification", tmp_path / "out", ROWS["text-classification"][0], tmp_path)


def test_every_sister_is_tried_here() -> None:
    assert {*KINDS, "chat-completion"} == set(system_pipelines())


def test_one_input_names_a_whole_text_or_a_prompt() -> None:
    whole = read_hyperparameters({"text_key": "story"}, task="text-generation", has_validation=True)
    parts = read_hyperparameters(
        {"text_key": "q", "ground_truth_key": "a"}, task="text-generation", has_validation=True
    )
    assert whole.prepare.columns == {"text": "story"}
    assert parts.prepare.columns == {"prompt": "q", "completion": "a"}
