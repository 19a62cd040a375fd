"""Killed anywhere, even while a checkpoint is being written, and resumed: equal bit for bit with the run never killed.

Each life of a run is a forked child that dies by SIGKILL at a chosen moment, so that nothing of it can be cleaned up.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from azft.errors import UsageError
from azft.parameters import FinetuneParameters
from azft.training.finetune import finetune
from azft.training.loop import Loop
from tests.training.tiny import parameters, save_model, tiny_dataset

STEPS = 9
TECHNIQUES: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "lora": {"name": "lora", "rank": 4, "dropout": 0.2},  # dropout needs the random numbers to be restored
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return {"model": save_model(folder / "model"), "dataset": tiny_dataset(folder / "dataset", count=20)}


def settings(technique: str, **training: Any) -> FinetuneParameters:
    """Checkpoints in the middle of epochs (4 steps each), a loss averaged over three steps, evaluations in between."""
    values = {
        "max_steps": STEPS,
        "global_batch_size": 2,
        "save_steps": 2,
        "logging_steps": 3,
        "eval_steps": 3,
        "early_stopping_patience": 5,
    }
    return parameters(technique=TECHNIQUES[technique], **(values | training))


def train(folder: Path, inputs: dict[str, Path], what: FinetuneParameters) -> None:
    finetune(what, **inputs, trained=folder / "trained", checkpoints=folder / "checkpoints", metrics=folder / "metrics")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_child(work: Callable[[], None]) -> int:
    """Run in a forked child; 0 when it ended well, -9 when it was killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(folder: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Every byte of the result, and the metrics without what depends on the clock."""
    trained = {path.name: path.read_bytes() for path in (folder / "trained").iterdir()}
    lines = [orjson.loads(line) for line in (folder / "metrics/metrics.jsonl").read_bytes().splitlines()]
    return trained, [{k: v for k, v in line.items() if k not in {"time", "tokens_per_second"}} for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    results = {}
    for technique in TECHNIQUES:
        folder = tmp_path_factory.mktemp(f"whole-{technique}")
        train(folder, inputs, settings(technique))
        results[technique] = outcome(folder)
    return results


def killed_before_step(step: int) -> Callable[[pytest.MonkeyPatch], None]:
    def arrange(patch: pytest.MonkeyPatch) -> None:
        original = Loop.step
        patch.setattr(Loop, "step", lambda self, n, *rest: die() if n == step else original(self, n, *rest))

    return arrange


def killed_at_file_event(number: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Death right before the `number`-th flush or rename of the process: inside checkpoints and the final result."""

    def arrange(patch: pytest.MonkeyPatch) -> None:
        count = 0

        def counting(original: Callable[..., Any]) -> Callable[..., Any]:
            def event(*args: Any, **kwargs: Any) -> Any:
                nonlocal count
                count += 1
                if count == number:
                    die()
                return original(*args, **kwargs)

            return event

        for name in ("fsync", "replace", "rename", "rmdir"):
            patch.setattr(os, name, counting(getattr(os, name)))

    return arrange


def live_and_die(
    folder: Path, inputs: dict[str, Path], technique: str, deaths: list[Callable[[pytest.MonkeyPatch], None]]
) -> None:
    for arrange in deaths:

        def life(arrange: Callable[[pytest.MonkeyPatch], None] = arrange) -> None:
            arrange(pytest.MonkeyPatch())
            train(folder, inputs, settings(technique))

        assert in_a_child(life) == -signal.SIGKILL
    assert in_a_child(lambda: train(folder, inputs, settings(technique))) == 0


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_killed_at_many_steps_the_result_is_the_same(
    technique: str, inputs: dict[str, Path], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    live_and_die(tmp_path, inputs, technique, [killed_before_step(n) for n in (1, 3, 4, 7, 8)])
    assert outcome(tmp_path) == uninterrupted[technique]


@pytest.mark.parametrize("event", [3, 17, 31, 44, 58, 71, 85, 99, 113, 127])
def test_killed_while_writing_the_result_is_the_same(
    event: int, inputs: dict[str, Path], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    live_and_die(tmp_path, inputs, "lora", [killed_at_file_event(event)])
    assert outcome(tmp_path) == uninterrupted["lora"]


@pytest.mark.slow
@pytest.mark.parametrize("technique", TECHNIQUES)
def test_killed_at_every_file_event_the_result_is_the_same(
    technique: str, inputs: dict[str, Path], uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    event = 1
    while True:
        folder = tmp_path / str(event)

        def life(event: int = event, folder: Path = folder) -> None:
            killed_at_file_event(event)(pytest.MonkeyPatch())
            train(folder, inputs, settings(technique))

        ended = in_a_child(life)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        assert in_a_child(lambda folder=folder: train(folder, inputs, settings(technique))) == 0  # type: ignore[misc]
        assert outcome(folder) == uninterrupted[technique], event
        event += 1
    assert event > 100


def test_a_damaged_newest_checkpoint_costs_steps_and_nothing_else(
    inputs: dict[str, Path], uninterrupted: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def life() -> None:
        killed_before_step(7)(pytest.MonkeyPatch())
        train(tmp_path, inputs, settings("lora"))

    assert in_a_child(life) == -signal.SIGKILL
    newest = tmp_path / "checkpoints/step-00000006/optimizer.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    train(tmp_path, inputs, settings("lora"))
    said = capfd.readouterr().out
    assert "warning: Checkpoint step-00000006 can't be used: optimizer.safetensors is damaged." in said
    assert "resumed from step 4 of 9" in said
    assert outcome(tmp_path) == uninterrupted["lora"]


def test_a_finished_run_that_is_started_again_only_writes_its_result_again(
    inputs: dict[str, Path], uninterrupted: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, inputs, settings("full"))
    monkeypatch.setattr(Loop, "step", lambda *_: pytest.fail("nothing is left to train"))
    train(tmp_path, inputs, settings("full"))
    assert outcome(tmp_path) == uninterrupted["full"]


def test_checkpoints_of_other_parameters_are_refused_but_of_another_logging_are_not(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    train(tmp_path, inputs, settings("full", max_steps=2))
    with pytest.raises(UsageError, match="it has other parameters"):
        train(tmp_path, inputs, settings("full", max_steps=2, learning_rate=2e-2))
    train(tmp_path, inputs, settings("full", max_steps=2, logging_steps=1, save_total_limit=5))
