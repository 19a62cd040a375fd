from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from azft.catalog import folder as folder_module
from azft.catalog.folder import cached_sha256, folder_identity, problems_of
from azft.files import sha256_file


def test_a_whole_folder_has_no_problem(model: Path) -> None:
    assert problems_of(model) == []


def _shards(model: Path, names: list[str]) -> None:
    (model / "model.safetensors").rename(model / "model-1.safetensors")
    (model / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {f"w{i}": name for i, name in enumerate(names)}})
    )


GIT_LFS = b"version https://git-lfs.github.com/spec/v1\n"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda m: (m / "config.json").unlink(), "no config.json"),
    "config is no JSON": (lambda m: (m / "config.json").write_text("{"), "not JSON"),
    "config is a list": (lambda m: (m / "config.json").write_text("[]"), "not a JSON object"),
    "config without a type": (lambda m: (m / "config.json").write_text("{}"), "model_type"),
    "no tokenizer": (lambda m: (m / "tokenizer.json").unlink(), "no tokenizer.json"),
    "no template": (lambda m: (m / "chat_template.jinja").unlink(), "no chat template"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "no model.safetensors"),
    "pickles": (lambda m: (m / "model.safetensors").rename(m / "pytorch_model.bin"), "run code"),
    "gguf": (lambda m: (m / "model.safetensors").rename(m / "model.gguf"), "quantised"),
    "git-lfs": (lambda m: (m / "model.safetensors").write_bytes(GIT_LFS), "git-lfs"),
    "empty": (lambda m: (m / "model.safetensors").write_bytes(b""), "cut off"),
    "cut off": (lambda m: (m / "model.safetensors").open("ab").truncate(70), "bytes where its header asks for"),
    "garbled header": (lambda m: (m / "model.safetensors").write_bytes(b"\4\0\0\0\0\0\0\0{{{{"), "broken header"),
    "odd header": (lambda m: (m / "model.safetensors").write_bytes(b'\7\0\0\0\0\0\0\0{"w":1}'), "broken header"),
    "missing shard": (lambda m: _shards(m, ["model-1.safetensors", "2.safetensors"]), "shard 2.safetensors is missing"),
    "shard outside": (lambda m: _shards(m, ["../../secret.safetensors"]), "outside the folder"),
    "index without map": (lambda m: (m / "model.safetensors.index.json").write_text("{}"), "no weight_map"),
    "adapter": (lambda m: (m / "config.json").rename(m / "adapter_config.json"), "an adapter, not a model"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_named(model: Path, damage: str) -> None:
    break_it, words = DAMAGES[damage]
    break_it(model)
    ((what, fix),) = problems_of(model)
    assert words in what
    assert fix


def test_shards_that_are_all_there_are_fine(model: Path) -> None:
    _shards(model, ["model-1.safetensors"])
    assert problems_of(model) == []


def test_the_template_may_stand_in_the_tokenizers_config(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    (model / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert problems_of(model) == []


def test_a_template_is_missed_by_tasks_of_chat_only(model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    assert [what for what, _ in problems_of(model)] != []
    assert problems_of(model, chat=False) == []


def test_files_that_loading_does_not_read_do_not_change_the_identity(model: Path) -> None:
    before = folder_identity(model)
    (model / "README.md").write_text("hello")
    (model / "pytorch_model.bin").write_text("x")
    assert folder_identity(model) == before


def test_a_large_file_is_hashed_again_only_when_it_changed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_LARGE", 1)
    hashed: list[Path] = []
    monkeypatch.setattr(folder_module, "sha256_file", lambda file: hashed.append(file) or sha256_file(file))
    weights = model / "model.safetensors"
    first = cached_sha256(weights)
    assert cached_sha256(weights) == first == sha256_file(weights)
    assert len(hashed) == 1
    os.utime(weights, ns=(0, 1))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert cached_sha256(weights) != first
    assert len(hashed) == 2


def test_a_torn_note_of_a_hash_is_made_anew(model: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "_LARGE", 1)
    first = cached_sha256(model / "model.safetensors")
    (note,) = (own_cache / "hashes").iterdir()
    note.write_text("{")
    assert cached_sha256(model / "model.safetensors") == first
