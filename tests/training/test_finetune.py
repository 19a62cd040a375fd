"""The finetune step from end to end on tiny models: what it writes, when it stops, what it refuses."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file

from azft.errors import UsageError
from azft.training.adapters import attach
from azft.training.finetune import finetune
from azft.training.loop import Loop, NonFiniteError
from azft.training.models import load_model
from tests.training.tiny import parameters, random_documents, save_model, tiny_dataset, write_tiny_dataset

LORA = {"name": "lora", "rank": 4, "dropout": 0.1}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "dataset", count=20)


def run(folder: Path, *, model: Path, dataset: Path, **settings: Any) -> Path:
    finetune(
        parameters(**settings),
        model=model,
        dataset=dataset,
        trained=folder / "trained",
        checkpoints=folder / "checkpoints",
        metrics=folder / "metrics",
    )
    return folder


def lines(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (folder / "metrics/metrics.jsonl").read_bytes().splitlines()]


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in lines(folder) if "loss" in line]


def trained_weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in (folder / "trained").glob("*.safetensors") for k, v in load_file(file).items()}


def test_full_training_learns_and_writes_a_model_that_transformers_loads(
    llama: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM

    run(tmp_path, model=llama, dataset=dataset, epochs=6)
    assert losses(tmp_path)[-1] < 0.8 * losses(tmp_path)[0]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "trained").config.model_type == "llama"
    summary = orjson.loads((tmp_path / "trained/training.json").read_bytes())
    assert summary["steps"] == summary["total_steps"] == summary["result_step"]
    assert summary["trainable_parameters"] == summary["total_parameters"]
    assert f"step {summary['steps']}/{summary['steps']}  loss" in capsys.readouterr().out


def test_lora_writes_an_adapter_that_plain_peft_loads(llama: Path, dataset: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run(tmp_path, model=llama, dataset=dataset, technique=LORA, epochs=4, learning_rate=5e-2)
    assert losses(tmp_path)[-1] < losses(tmp_path)[0]
    assert sorted(path.name for path in (tmp_path / "trained").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "training.json",
    ]
    base = AutoModelForCausalLM.from_pretrained(llama)
    ids = torch.arange(3, 30)[None]
    before = base(input_ids=ids).logits
    tuned = PeftModel.from_pretrained(base, tmp_path / "trained").eval()(input_ids=ids).logits
    assert (tuned - before).abs().max() > 1e-3
    ours = attach(load_model(llama, dtype=torch.float32), tmp_path / "trained")(input_ids=ids).logits
    assert torch.equal(ours, tuned)


def test_a_run_writes_every_step_and_evaluation_once(llama: Path, dataset: Path, tmp_path: Path) -> None:
    run(tmp_path, model=llama, dataset=dataset, epochs=2, global_batch_size=2, eval_steps=3)
    steps = [line["step"] for line in lines(tmp_path) if "loss" in line]
    assert steps == list(range(1, steps[-1] + 1))
    assert [line["step"] for line in lines(tmp_path) if "eval_loss" in line] == [
        s for s in steps if s % 3 == 0 or s == steps[-1]
    ]
    first = lines(tmp_path)[0]
    assert {
        "step",
        "loss",
        "learning_rate",
        "grad_norm",
        "tokens_per_second",
        "time",
        "total_steps",
        "epoch",
        "tokens",
    } == set(first)
    assert first["total_steps"] == steps[-1]


def test_logging_steps_gives_means_over_the_steps_between(llama: Path, dataset: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": llama, "dataset": dataset, "epochs": 2, "global_batch_size": 2}
    run(tmp_path / "each", **settings)
    run(tmp_path / "third", **settings, logging_steps=3)
    each = losses(tmp_path / "each")
    assert len(losses(tmp_path / "third")) == -(-len(each) // 3)
    assert min(each[:3]) < losses(tmp_path / "third")[0] < max(each[:3])


def test_max_steps_ends_the_run_and_its_schedule(llama: Path, dataset: Path, tmp_path: Path) -> None:
    run(tmp_path, model=llama, dataset=dataset, epochs=100, max_steps=3, schedule="linear", warmup_ratio=0)
    rates = [line["learning_rate"] for line in lines(tmp_path) if "loss" in line]
    assert rates == pytest.approx([1e-2, 1e-2 * 2 / 3, 1e-2 / 3])


def test_equal_seeds_give_equal_bytes_and_others_do_not(llama: Path, dataset: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        run(tmp_path / name, model=llama, dataset=dataset, technique=LORA, seed=seed, max_steps=3)
    one, two, three = (
        {f.name: f.read_bytes() for f in (tmp_path / name / "trained").iterdir()} for name in ("one", "two", "three")
    )
    assert one == two
    assert one["adapter_model.safetensors"] != three["adapter_model.safetensors"]


def test_gradient_checkpointing_changes_no_bit(llama: Path, dataset: Path, tmp_path: Path) -> None:
    for name, on in (("plain", False), ("checkpointed", True)):
        run(tmp_path / name, model=llama, dataset=dataset, technique=LORA, gradient_checkpointing=on, max_steps=3)
    plain, checkpointed = (trained_weights(tmp_path / name) for name in ("plain", "checkpointed"))
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


def test_early_stopping_returns_the_best_checkpoint(
    llama: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = iter([3.0, 2.0, 2.5, 1.99, 2.4, 0.1])
    monkeypatch.setattr(Loop, "evaluate", lambda self: next(planned))
    run(
        tmp_path,
        model=llama,
        dataset=dataset,
        max_steps=20,
        eval_steps=2,
        save_steps=1,
        early_stopping_patience=3,
        early_stopping_threshold=0.05,
        save_total_limit=1,
    )
    summary = orjson.loads((tmp_path / "trained/training.json").read_bytes())
    assert summary["stopped_early"]
    assert (summary["steps"], summary["result_step"], summary["best_eval_loss"]) == (10, 4, 2.0)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000004", "step-00000010"]
    best = load_file(tmp_path / "checkpoints/step-00000004/weights.safetensors")
    result = trained_weights(tmp_path)
    assert all(torch.equal(best[f"model.{name}"], value) for name, value in result.items())


def test_nan_stops_the_run_before_the_weights_are_touched(dataset: Path, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    weights["model.embed_tokens.weight"][50] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    poisoned = random_documents(6)
    for number, (tokens, _) in enumerate(poisoned):
        tokens[tokens == 50] = 51
        if number == 3:
            tokens[1] = 50
    data = write_tiny_dataset(tmp_path / "data", train=poisoned, packing=False)
    with pytest.raises(NonFiniteError, match=r"Step 1: the loss is nan .*documents 3\)") as caught:
        run(tmp_path / "run", model=model, dataset=data, global_batch_size=6)
    assert "learning_rate" in caught.value.fix
    assert not (tmp_path / "run/trained").exists()


def test_sigterm_finishes_the_step_saves_and_exits_with_143(
    llama: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Loop.step

    def interrupted(self: Loop, number: int, *rest: Any) -> Any:
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, *rest)

    monkeypatch.setattr(Loop, "step", interrupted)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, model=llama, dataset=dataset, technique=LORA, max_steps=6)
    assert caught.value.code == 143
    assert (tmp_path / "checkpoints/step-00000003/manifest.json").is_file()
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    run(tmp_path, model=llama, dataset=dataset, technique=LORA, max_steps=6)
    run(tmp_path / "whole", model=llama, dataset=dataset, technique=LORA, max_steps=6)
    assert (tmp_path / "trained/adapter_model.safetensors").read_bytes() == (
        tmp_path / "whole/trained/adapter_model.safetensors"
    ).read_bytes()


def test_without_validation_data_nothing_is_evaluated_and_early_stopping_is_refused(
    llama: Path, tmp_path: Path
) -> None:
    data = write_tiny_dataset(tmp_path / "data", train=random_documents(4))
    run(tmp_path / "run", model=llama, dataset=data, max_steps=1)
    assert all("eval_loss" not in line for line in lines(tmp_path / "run"))
    with pytest.raises(UsageError, match="validation"):
        run(tmp_path / "other", model=llama, dataset=data, early_stopping_patience=1)


def test_data_without_any_token_in_the_loss_are_refused(llama: Path, tmp_path: Path) -> None:
    documents = [(tokens, np.zeros(len(tokens), bool)) for tokens, _ in random_documents(3)]
    data = write_tiny_dataset(tmp_path / "data", train=documents)
    with pytest.raises(UsageError, match="in the loss"):
        run(tmp_path, model=llama, dataset=data)


def test_tokens_that_the_model_does_not_know_are_refused(dataset: Path, tmp_path: Path) -> None:
    small = save_model(tmp_path / "small", vocab_size=40)
    with pytest.raises(UsageError, match="knows 40 tokens"):
        run(tmp_path, model=small, dataset=dataset)


def test_more_processes_than_the_strategy_allows_are_refused(
    llama: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="2 processes were started"):
        run(tmp_path, model=llama, dataset=dataset)
