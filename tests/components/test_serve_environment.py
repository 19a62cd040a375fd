"""The serving image: pinned, and its start script finds the model wherever Azure mounted it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

SERVE = Path(__file__).parents[2] / "environments" / "serve"


def start(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a `vllm` that only says what it was told."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    fake = tools / "vllm"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", **variables}
    command = ["bash", str(SERVE / "serve.sh")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("below", [".", "packaged", "linden/3/packaged"])
def test_it_serves_the_whole_model_below_the_mount(tmp_path: Path, below: str) -> None:
    model = tmp_path / "models" / below
    (model / "adapter").mkdir(parents=True)
    for name in ("config.json", "adapter/config.json"):
        (model / name).write_text("{}", encoding="utf-8")
    done = start(
        tmp_path,
        AZFT_MODEL_ROOT=str(tmp_path / "models"),
        AZFT_MODEL_NAME="linden",
        AZFT_GPUS="2",
        VLLM_ARGS="--max-model-len 4096",
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "serve"
    assert Path(said[1]).resolve() == model.resolve()
    assert said[2:] == [
        "--served-model-name", "linden", "--host", "0.0.0.0", "--port", "8000", "--tensor-parallel-size", "2",
        "--max-model-len", "4096",
    ]  # fmt: skip


def test_azures_own_folder_is_taken_when_nothing_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "config.json").write_text("{}", encoding="utf-8")
    done = start(tmp_path, AZFT_MODEL_ROOT=str(tmp_path / "nothing"), AZUREML_MODEL_DIR=str(tmp_path / "own"))
    assert done.stdout.splitlines()[1] == str(tmp_path / "own")
    assert "azft" in done.stdout


def test_an_adapter_alone_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "own" / "adapter").mkdir(parents=True)
    (tmp_path / "own" / "adapter" / "config.json").write_text("{}", encoding="utf-8")
    done = start(tmp_path, AZUREML_MODEL_DIR=str(tmp_path / "own"))
    assert done.returncode == 1
    assert "not a whole (merged) model" in done.stderr


def test_the_image_is_pinned_and_microsofts() -> None:
    dockerfile = (SERVE / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)[0].startswith("mcr.microsoft.com/azureml/")
    lines = (SERVE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", pin) for pin in pins)
    assert any(pin.startswith("vllm==") for pin in pins)
    assert "EXPOSE 8000" in dockerfile
