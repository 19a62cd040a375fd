"""The real steps under local mode: killed anywhere and resumed, the same weights come out, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from azft.files import sha256_file
from azft.modes.local import LocalMode
from azft.recipe_file import load_recipe
from azft.runs import RunState

pytestmark = pytest.mark.slow
pytest.importorskip("torch")

RECIPE = """\
name: real
task: chat-completion
model: Phi-4-mini-instruct
data: {train: train.jsonl}
technique: {name: lora, rank: 4}
training: {max_steps: 30, max_length: 64, global_batch_size: 2, packing: false, save_steps: 5, eval_steps: 10}
evaluation: {samples: 1, max_new_tokens: 4}
modes: {local: {weights: stand-in}}
"""
SUBMIT = """
import pathlib, sys
from azft.modes.local import LocalMode
from azft.recipe_file import load_recipe
mode = LocalMode(pathlib.Path(sys.argv[2]))
mode.submit(mode.plan(load_recipe(pathlib.Path(sys.argv[1]), environment={})))
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    (folder / "recipe.yaml").write_text(RECIPE)
    with (folder / "train.jsonl").open("w") as file:
        for number in range(40):
            turns = [
                {"role": "user", "content": f"What comes after {number}?"},
                {"role": "assistant", "content": f"After {number} comes {number + 1}."},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    return folder


@pytest.fixture(scope="module")
def expected(work: Path) -> str:
    """The adapter's hash after a run that nobody disturbed."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AZFT_CACHE", str(work / "cache"))
        mode = LocalMode(work / "undisturbed")
        run = mode.submit(mode.plan(load_recipe(work / "recipe.yaml", environment={})))
    return sha256_file(run.outputs()["trained"] / "adapter_model.safetensors")


@pytest.mark.parametrize("victim", ["runner", "everything"])
@pytest.mark.parametrize("lines", [3, 17])
def test_killed_and_resumed_is_the_same_bit_for_bit(
    work: Path, expected: str, victim: str, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZFT_CACHE", str(work / "cache"))
    root = work / f"{victim}-{lines}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    submit = [sys.executable, "-c", SUBMIT, str(work / "recipe.yaml"), str(root)]
    process = subprocess.Popen(submit, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mode = LocalMode(root)
    deadline = time.monotonic() + 120
    while not (mode.store.list() and len(mode.store.list()[0].metrics()[0]) >= lines):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    tree = psutil.Process(process.pid).children(recursive=True)
    for one in [*tree, psutil.Process(process.pid)] if victim == "everything" else [psutil.Process(process.pid)]:
        one.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(tree, timeout=60)
    assert [one for one in tree if one.is_running()] == []
    run = mode.store.list()[0]
    assert run.state is RunState.INTERRUPTED
    mode.resume(run)
    assert run.state is RunState.COMPLETED
    assert sha256_file(run.outputs()["trained"] / "adapter_model.safetensors") == expected
    steps = [line["step"] for line in run.metrics()[0] if "loss" in line]
    assert steps == sorted(set(steps)), "no step is logged twice"


def test_two_ranks_train_through_torchrun(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZFT_CACHE", str(work / "cache"))
    overrides = ["training.max_steps=2", "distribution.strategy=ddp", "modes.local.processes=2"]
    mode = LocalMode(work / "ranks")
    run = mode.submit(mode.plan(load_recipe(work / "recipe.yaml", overrides=overrides, environment={})))
    assert run.state is RunState.COMPLETED
    assert "2 ranks" in "\n".join(run.log("finetune")[0])
