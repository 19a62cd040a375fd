"""How many weights a recipe trains, from the files' headers: the counts of the model that is really prepared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from azft.catalog.trainable import TrainableShare, trainable_share
from azft.recipe import Recipe
from azft.techniques import TECHNIQUES
from azft.training.stand_in import SpecialTokens, StandInSpec, make
from azft.training.stand_in_architectures import ARCHITECTURES
from azft.training.techniques import trainable_share as counted

WRITERS = [name for name, architecture in ARCHITECTURES.items() if architecture.writes]
KNOWN: list[dict[str, Any]] = [
    {"name": "full"},
    {"name": "freeze", "layers": 1},
    {"name": "lora"},
    {"name": "lora", "rank": 4, "init": "pissa", "rank_pattern": {"o_proj": 2, "wo": 3}},
    {"name": "dora", "rank": 3},
    {"name": "qlora", "rank": 3, "use_dora": True},
    {"name": "prompt-tuning", "virtual_tokens": 5},
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    rows = folder / "rows.jsonl"
    rows.write_text(json.dumps({"text": "What is 2 plus 2? It is 4."}))
    special = SpecialTokens(bos="<s>", eos="</s>", pad="<pad>", stop="</s>")
    for name in WRITERS:
        spec = StandInSpec(
            architecture=name, special_tokens=special, data=rows, data_sha256="", hidden_size=32, intermediate_size=48
        )
        make(spec, folder / name)
        config = json.loads((folder / name / "config.json").read_bytes())
        del config["azft_stand_in"]  # a model of its own, held to the recipe's layers
        (folder / name / "config.json").write_text(json.dumps(config))
    return {name: folder / name for name in WRITERS}


def recipe(technique: dict[str, Any], task: str = "summarization") -> Recipe:
    return Recipe.model_validate(
        {"name": "x", "task": task, "model": "m", "data": {"train": "t"}, "technique": technique}
    )


@pytest.mark.parametrize("architecture", WRITERS)
@pytest.mark.parametrize("technique", KNOWN, ids=str)
def test_the_count_is_the_prepared_models(
    architecture: str, technique: dict[str, Any], folders: dict[str, Path]
) -> None:
    if "rank_pattern" in technique:  # the one of its names that the architecture has
        names = {"wo": 3} if architecture.startswith("T5") else {"o_proj": 2}
        technique = {**technique, "rank_pattern": names}
    read = recipe(technique)
    share = trainable_share(read, folders[architecture])
    assert share is not None
    objective = "sequence-to-sequence" if architecture.startswith("T5") else "next-token"
    assert (share.trained, share.total) == counted(folders[architecture], read.technique, objective=objective)


def test_the_count_follows_names_and_layers(folders: dict[str, Path]) -> None:
    technique = {"name": "lora", "rank": 4, "target_modules": ["q_proj", "mlp.down_proj"], "layers": [1]}
    read = recipe(technique)
    share = trainable_share(read, folders["LlamaForCausalLM"])
    assert share is not None
    assert (share.trained, share.total) == counted(folders["LlamaForCausalLM"], read.technique)


def test_what_only_training_can_tell_is_not_said(folders: dict[str, Path], tmp_path: Path) -> None:
    llama = folders["LlamaForCausalLM"]
    known = {technique["name"] for technique in KNOWN}
    for technique in [
        *({"name": name} for name in TECHNIQUES if name not in known),
        {"name": "lora", "init": "eva"},
        {"name": "lora", "modules_to_save": ["norm"]},
        {"name": "lora", "target_modules": ["lm_head"]},
        {"name": "freeze", "head": True},
    ]:
        assert trainable_share(recipe(technique), llama) is None, technique
    assert trainable_share(recipe({"name": "lora"}, "text-classification"), llama) is None  # its head is new
    assert trainable_share(recipe({"name": "lora"}), tmp_path) is None
    config = json.loads((llama / "config.json").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["OtherForCausalLM"]}))
    (tmp_path / "model.safetensors").write_bytes((llama / "model.safetensors").read_bytes())
    assert trainable_share(recipe({"name": "lora"}), tmp_path) is None


@pytest.mark.parametrize(
    ("trained", "total", "words"),
    [
        (3_145_728, 3_836_021_760, "3.1 M of 3,836 M weights (0.082 %)"),
        (12_345, 99_000, "12.3 K of 99.0 K weights (12 %)"),
        (812, 812, "812 of 812 weights (100 %)"),
    ],
)
def test_the_share_in_words(trained: int, total: int, words: str) -> None:
    assert TrainableShare(trained=trained, total=total).words == words
