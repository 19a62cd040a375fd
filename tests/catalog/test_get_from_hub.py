"""The real huggingface_hub against a hub on loopback, in its own process because it reads the address at import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import azft
from tests.catalog.conftest import make_model
from tests.catalog.fake_hub import COMMIT, FakeHub
from tests.helpers.painters import write_painter


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """What someone put on the hub: a model, and much besides that is not wanted."""
    folder = make_model(tmp_path / "repository")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "consolidated.safetensors").write_bytes(b"the weights once more")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    return folder


def get(
    name: str, hub: str, cache: Path, script: str = "print(get_model(sys.argv[1]))"
) -> subprocess.CompletedProcess[str]:
    code = f"import sys\nfrom azft.catalog.get import get_model\n{script}"
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_CACHE": str(cache),
        "PYTHONPATH": str(Path(azft.__file__).parent.parent),
    }
    command = [sys.executable, "-c", code, name]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_model_comes_with_its_safetensors_and_nothing_that_can_run(repository: Path, tmp_path: Path) -> None:
    with FakeHub("someone/tiny", repository).serve() as hub:
        done = get("someone/tiny", hub.address, tmp_path / "hub")
        again = get("someone/tiny", hub.address, tmp_path / "hub")
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.name == COMMIT
    assert {file.name for file in folder.rglob("*")} == {
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    assert again.stdout == done.stdout
    assert sorted(hub.requested) == sorted(set(hub.requested)), "the second call fetched nothing"


def test_a_folder_of_diffusers_comes_with_its_parts_once_and_without_pickles(tmp_path: Path) -> None:
    folder = write_painter(tmp_path / "repository")
    wanted = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    for unwanted in ("unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin",
                     "v1-5-pruned.safetensors", "safety_checker/model.safetensors"):  # fmt: skip
        (folder / unwanted).parent.mkdir(exist_ok=True)
        (folder / unwanted).write_bytes(unet.read_bytes())
    with FakeHub("someone/painter", folder).serve() as hub:
        done = get("someone/painter", hub.address, tmp_path / "hub")
        again = get("someone/painter", hub.address, tmp_path / "hub")
    assert done.returncode == 0, done.stderr
    here = Path(done.stdout.strip())
    assert {file.relative_to(here).as_posix() for file in here.rglob("*") if file.is_file()} == wanted
    assert again.stdout == done.stdout


def test_a_model_that_is_not_whole_is_refused_with_the_reason(repository: Path, tmp_path: Path) -> None:
    (repository / "tokenizer.json").unlink()
    with FakeHub("someone/tiny", repository).serve() as hub:
        done = get("someone/tiny", hub.address, tmp_path / "hub")
    assert "it has no tokenizer.json" in done.stderr


def test_a_gated_model_says_how_to_get_in(repository: Path, tmp_path: Path) -> None:
    with FakeHub("someone/tiny", repository, gated=True).serve() as hub:
        done = get("someone/tiny", hub.address, tmp_path / "hub")
    assert "accept its licence" in done.stderr


def test_a_repository_that_is_not_there_says_so(repository: Path, tmp_path: Path) -> None:
    with FakeHub("someone/else", repository).serve() as hub:
        done = get("someone/tiny", hub.address, tmp_path / "hub")
    assert "there is no such repository" in done.stderr


def test_a_hub_that_refuses_connections_is_given_up_at_once(tmp_path: Path) -> None:
    done = get("someone/tiny", "http://127.0.0.1:9", tmp_path / "hub")
    assert "the hub (someone/tiny): " in done.stderr
