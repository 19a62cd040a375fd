"""The trainer and the server that play Azure's workers, as the emulator starts them: as command lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import azft
from azft.catalog import materialize, resolve_model
from azft.files import sha256_tree
from azft.recipe_file import load_recipe
from azft.rehearsal.model_folder import plain_folder
from azft.rehearsal.trainer import main

FEW = {"num_train_epochs": "1", "per_device_train_batch_size": "8", "learning_rate": "0.0002", "max_seq_length": "256"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the quickstart's rows beside a stand-in of its model."""
    folder = tmp_path_factory.mktemp("project") / "demo"
    azft.init(folder)
    rows = (folder / "train.jsonl").read_text().splitlines(keepends=True)
    (folder / "train.jsonl").write_text("".join(rows[:32]))
    recipe = load_recipe(folder / "recipe.yaml", overrides=("modes.local.weights=stand-in",), environment={})
    (folder / "model").symlink_to(materialize(resolve_model(recipe)))
    return folder


def job(project: Path, folder: Path, **changes: Any) -> Path:
    """A job.json in a folder of its own."""
    described = {
        "task": "chatCompletion",
        "model": str(project / "model"),
        "train": str(project / "train.jsonl"),
        "validation": str(project / "validation.jsonl"),
        "hyperparameters": FEW,
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(described))
    return folder / "job.json"


@pytest.fixture(scope="module")
def tuned(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a small job makes."""
    folder = tmp_path_factory.mktemp("tuned")
    arguments = ["--job", str(job(project, folder / "job")), "--output", str(folder / "out")]
    assert main([*arguments, "--pytorch-output", str(folder / "plain")]) == 0
    return folder


def test_a_job_becomes_an_mlflow_folder_and_a_plain_one(tuned: Path) -> None:
    out = tuned / "out"
    assert {path.name for path in out.iterdir()} == {"MLmodel", "data"}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in (out / "data/model").iterdir()
    }
    assert "tokenizer.json" in {path.name for path in (out / "data/tokenizer").iterdir()}
    assert sha256_tree(tuned / "plain") == sha256_tree(out / "data" / "model")
    assert "hftransformersv2" in (out / "MLmodel").read_text()


def test_the_weights_moved_and_nothing_else(project: Path, tuned: Path) -> None:
    model = tuned / "out" / "data" / "model"
    assert (model / "model.safetensors").read_bytes() != (project / "model" / "model.safetensors").read_bytes()
    assert (model / "tokenizer.json").read_bytes() == (project / "model" / "tokenizer.json").read_bytes()


def test_a_registrys_mlflow_folder_is_trained_like_a_plain_one(project: Path, tuned: Path, tmp_path: Path) -> None:
    mlflow = tmp_path / "mlflow"
    (mlflow / "data").mkdir(parents=True)
    (mlflow / "data" / "tokenizer").mkdir()
    (mlflow / "data" / "model").mkdir()
    for file in (project / "model").iterdir():
        place = "tokenizer" if file.name.startswith(("tokenizer", "chat_template")) else "model"
        (mlflow / "data" / place / file.name).write_bytes(file.read_bytes())
    file = job(project, tmp_path / "job", model=str(mlflow))
    assert main(["--job", str(file), "--output", str(tmp_path / "out")]) == 0
    assert sha256_tree(tmp_path / "out" / "data") == sha256_tree(tuned / "out" / "data")


def test_arguments_on_the_command_line_are_a_job_too(project: Path, tuned: Path, tmp_path: Path) -> None:
    files = ["--train", str(project / "train.jsonl"), "--validation", str(project / "validation.jsonl")]
    values = [part for name, value in FEW.items() for part in ("--set", f"{name}={value}")]
    arguments = ["--task", "chat-completion", "--model", str(project / "model"), *files, *values]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    assert sha256_tree(tmp_path / "out" / "data") == sha256_tree(tuned / "out" / "data")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hyperparameters": {"lora_rank": "3"}}, "lora_rank: not supported"),
        ({"task": "textEmbedding"}, "task type 'textEmbedding' is not supported"),
        ({"model": "/nowhere"}, "There is no model in /nowhere"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_a_job_that_cant_be_done_is_refused_in_words(
    project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], changes: dict[str, Any], words: str
) -> None:
    file = job(project, tmp_path / "job", **changes)
    assert main(["--job", str(file), "--output", str(tmp_path / "out")]) == 1
    told = capfd.readouterr().err
    assert told.startswith("UserError: ")
    assert words in told


@pytest.mark.slow
def test_killed_and_started_again_it_ends_with_the_same_weights(project: Path, tmp_path: Path) -> None:
    """As a preempted node does: the second attempt finds the first one's checkpoints beside the job file."""
    hyperparameters = {**FEW, "num_train_epochs": "3", "per_device_train_batch_size": "4"}
    whole = job(project, tmp_path / "whole", hyperparameters=hyperparameters)
    assert main(["--job", str(whole), "--output", str(tmp_path / "expected")]) == 0
    file = job(project, tmp_path / "job", hyperparameters=hyperparameters)
    command = [sys.executable, "-m", "azft.rehearsal.trainer", "--job", str(file), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    checkpoints = tmp_path / "job" / "work" / "checkpoints"
    deadline = time.monotonic() + 60
    while not list(checkpoints.glob("step-*/manifest.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "MLmodel").exists()
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert sha256_tree(tmp_path / "out") == sha256_tree(tmp_path / "expected")


def test_the_server_answers_line_by_line_and_ends_with_its_input(tuned: Path) -> None:
    questions: list[Any] = [
        {"messages": [{"role": "user", "content": "When do you open?"}], "max_tokens": 8},
        {"nothing": 1},
        {"messages": [{"role": "user", "content": "And on Sunday?"}], "max_tokens": 8, "temperature": 0},
    ]
    done = subprocess.run(
        [sys.executable, "-m", "azft.rehearsal.server", "--model", str(tuned / "out")],
        input="".join(json.dumps(question) + "\n" for question in questions),
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(answer) for answer in answers] == [["content"], ["error"], ["content"]]
    assert "messages" in answers[1]["error"]


def test_a_server_without_a_model_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "azft.rehearsal.server", "--model", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 1
    assert "There is no model in" in done.stderr


def test_a_plain_folder_is_taken_as_it_is(project: Path, tmp_path: Path) -> None:
    assert plain_folder(project / "model", tmp_path / "scratch") == project / "model"
    assert not (tmp_path / "scratch").exists()
