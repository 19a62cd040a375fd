"""Every technique through the steps: trained, cut off and resumed, evaluated, packaged, and talked to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from safetensors.torch import load_file

from azft.data.masking import ChatRenderer
from azft.data.tokenizer import load_tokenizer
from azft.parameters import EvaluateParameters, FinetuneParameters, PackageParameters
from azft.recipe import Recipe
from azft.training import devices
from azft.training.evaluate import evaluate
from azft.training.finetune import finetune
from azft.training.generate import load_chat
from azft.training.loop import Loop
from azft.training.package import package
from tests.helpers.tokens import tokenizer_folder
from tests.training.technique_rows import ROWS
from tests.training.test_results import CHATS
from tests.training.tiny import parameters, tiny_model, write_tiny_dataset

RUNS = ["freeze", "lora-pissa", "lora-eva", "dora", "qlora", "ia3", "prompt-tuning", "prefix-tuning", "p-tuning"]
"""`full` and `lora` go through the steps in files of their own."""
RATES = {"freeze": 1e-2, "lora-pissa": 5e-3, "lora-eva": 2e-2, "ia3": 0.1, "prompt-tuning": 0.1, "prefix-tuning": 0.1}
VIRTUAL = {"prompt-tuning", "prefix-tuning", "p-tuning"}


class CutOffError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    tiny_model("llama", vocab_size=512).save_pretrained(folder / "model")
    tokenizer_folder(folder / "model", "phi-4-mini")
    renderer = ChatRenderer(load_tokenizer(folder / "model"))
    rendered = [renderer.render({"messages": chat}) for chat in CHATS]
    documents = [(one.token_ids, one.loss_mask) for one in rendered]
    write_tiny_dataset(folder / "dataset", train=documents[:5], validation=documents[5:], vocab_size=512)
    return {"model": folder / "model", "dataset": folder / "dataset"}


def settings(which: str, **training: Any) -> FinetuneParameters:
    values = {"max_steps": 6, "global_batch_size": 2, "save_steps": 2, "learning_rate": RATES.get(which, 1e-2)}
    return parameters(technique=ROWS[which], **(values | training))


def train(folder: Path, inputs: dict[str, Path], what: FinetuneParameters) -> dict[str, bytes]:
    places = {name: folder / name for name in ("trained", "checkpoints", "metrics")}
    finetune(what, **inputs, **places)
    return {path.name: path.read_bytes() for path in places["trained"].iterdir()}


@pytest.fixture(scope="module", params=RUNS)
def whole(
    request: pytest.FixtureRequest, inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, dict[str, bytes]]:
    """A technique, the folder of a run that was never cut off, and what it made."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, train(folder, inputs, settings(request.param))


def test_cut_off_and_resumed_the_result_is_the_same_bit_for_bit(
    whole: tuple[str, Path, dict[str, bytes]], inputs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which, _, expected = whole
    step = Loop.step

    def until_five(self: Loop, number: int, *rest: Any) -> Any:
        if number == 5:
            raise CutOffError
        return step(self, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "step", until_five)
        with pytest.raises(CutOffError):
            train(tmp_path, inputs, settings(which))
    assert not (tmp_path / "trained").exists()
    assert train(tmp_path, inputs, settings(which)) == expected


def test_a_checkpoint_holds_what_is_trained_and_nothing_else(whole: tuple[str, Path, dict[str, bytes]]) -> None:
    which, folder, made = whole
    newest = max((folder / "checkpoints").glob("step-*"))
    held = sum(tensor.numel() for tensor in load_file(newest / "weights.safetensors").values())
    summary = made["training.json"].decode()
    assert f'"trainable_parameters": {held}' in summary
    assert held < 0.5 * sum(p.numel() for p in tiny_model("llama", vocab_size=512).parameters()), which


def test_it_is_evaluated_packaged_and_talked_to(
    whole: tuple[str, Path, dict[str, bytes]],
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    which, folder, _ = whole
    recipe = Recipe.model_validate(
        {
            "name": "paris",
            "task": "chat-completion",
            "model": "tiny-base",
            "data": {"train": "train.jsonl"},
            "technique": ROWS[which],
            "evaluation": {"samples": 1, "max_new_tokens": 8},
            "training": {"precision": "fp32"},
        }
    )
    trained = folder / "trained"
    evaluate(EvaluateParameters.of(recipe), **inputs, trained=trained, output=tmp_path / "evaluation")
    package(
        PackageParameters.of(recipe),
        model=inputs["model"],
        trained=trained,
        evaluation=tmp_path / "evaluation",
        output=tmp_path / "packaged",
    )
    figures = orjson.loads((tmp_path / "evaluation/evaluation.json").read_bytes())
    (sample,) = [orjson.loads(line) for line in (tmp_path / "evaluation/samples.jsonl").read_bytes().splitlines()]
    assert figures["tuned"]["loss"] < figures["base"]["loss"]
    packaged = shutil.move(tmp_path / "packaged", tmp_path / "elsewhere")
    names = {path.relative_to(packaged).as_posix() for path in packaged.rglob("*")}
    assert {"README.md", "tokenizer.json"} <= names
    assert ("model.safetensors" in names) == (which not in VIRTUAL)
    assert ("base/model.safetensors" in names) == (which in VIRTUAL)
    # A tiny model's words hang by a thread, so it has to compute as it was evaluated: not in bf16 where a CPU has it.
    monkeypatch.setattr(devices, "_has_fast_bf16", lambda _device: False)
    said = "".join(load_chat(packaged).reply(CHATS[5][:1], max_new_tokens=8))
    assert said.strip() == sample["tuned"].strip()
    assert torch.isfinite(torch.tensor(figures["tuned"]["loss"]))
