"""Recipes and tiny model folders for the catalog's tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from azft.recipe_file import RecipeFile, load_recipe

CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {n} plus {n}?"},
            {"role": "assistant", "content": f"It is {2 * n}."},
        ]
    }
    for n in range(40)
]


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., RecipeFile]:
    """A recipe file on disk for a model, with forty chats beside it."""

    def make(model: str, weights: str = "auto", *overrides: str) -> RecipeFile:
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CHATS))
        path = tmp_path / "recipe.yaml"
        path.write_text(
            f"name: demo\ntask: chat-completion\nmodel: {json.dumps(model)}\ndata:\n  train: train.jsonl\n"
            f"modes:\n  local:\n    weights: {weights}\n"
        )
        return load_recipe(path, overrides=overrides, environment={})

    return make


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder that looks whole: real headers, four weights."""
    return make_model(tmp_path / "model")


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    header = b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    return folder
