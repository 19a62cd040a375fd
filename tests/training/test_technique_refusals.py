"""What can't work is refused, with what would: by the recipe where it can know, else before the first step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from azft.errors import MissingDependencyError, UsageError
from azft.recipe import Recipe
from azft.training import models, stand_in
from azft.training.techniques import TrainingData, prepare
from tests.training.technique_rows import row
from tests.training.tiny import open_train, random_documents, save_model, tiny_dataset, tiny_model, write_tiny_dataset


def recipe(technique: dict[str, Any], **sections: Any) -> Recipe:
    base = {"name": "x", "task": "chat-completion", "model": "tiny", "data": {"train": "train.jsonl"}}
    return Recipe.model_validate({**base, "technique": technique, **sections})


@pytest.mark.parametrize(
    ("technique", "said"),
    [
        ({"name": "lora", "init": "orthogonal", "rank": 3}, "needs even ranks, and 3 is odd"),
        ({"name": "lora", "init": "orthogonal", "rank_pattern": {"q_proj": 5}}, "needs even ranks, and 5 is odd"),
        ({"name": "lora", "init": "eva", "rank_pattern": {"q_proj": 4}}, "decides each module's rank"),
        ({"name": "lora", "init": "pissa_niter_0"}, "String should match pattern"),
        ({"name": "lora", "use_dora": True}, "Extra inputs are not permitted"),
        ({"name": "qlora", "init": "pissa"}, "which 4 bits can't hold"),
        ({"name": "qlora", "quantization": "int4"}, "'nf4' or 'fp4'"),
        (
            {"name": "ia3", "target_modules": ["k_proj"], "feedforward_modules": ["down_proj"]},
            "names 'down_proj', which `target_modules` does not",
        ),
        ({"name": "prompt-tuning", "init": "text"}, "`init: text` and `init_text` go together"),
        ({"name": "prompt-tuning", "init_text": "Be brief."}, "`init: text` and `init_text` go together"),
        ({"name": "prefix-tuning", "virtual_tokens": 0}, "greater than or equal to 1"),
        ({"name": "freeze", "layers": 0}, "greater than or equal to 1"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(technique: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        recipe(technique)
    assert said in str(caught.value)


def test_a_stand_in_takes_its_last_layer_for_those_that_only_the_model_has(tmp_path: Path) -> None:
    technique = row({"name": "lora", "layers": [0, 20, 31], "rank_pattern": {"layers.20.mlp.up_proj": 3}, "rank": 2})
    with pytest.raises(UsageError, match="has no layer 20 to adapt"):
        prepare(tiny_model("llama"), technique)
    model = tiny_model("llama")
    setattr(model.config, stand_in.MARK, True)
    trained = {name: p for name, p in prepare(model, technique).named_parameters() if p.requires_grad}
    assert {name.split(".layers.")[1][0] for name in trained} == {"0", "1"}
    ranks = {name.split(".layers.")[1][0]: len(p) for name, p in trained.items() if ".up_proj.lora_A." in name}
    assert ranks == {"0": 2, "1": 3}


@pytest.mark.parametrize("name", ["prompt-tuning", "prefix-tuning", "p-tuning"])
def test_virtual_tokens_can_not_be_merged_and_the_default_does_not_ask_for_it(name: str) -> None:
    assert not recipe({"name": name}).merges
    assert not recipe({"name": name}, output={"merge": False}).merges
    with pytest.raises(ValidationError, match=f"can't be true with {name}: virtual tokens are no part of the weights"):
        recipe({"name": name}, output={"merge": True})
    assert recipe({"name": "lora"}).merges
    assert not recipe({"name": "lora"}, output={"merge": False}).merges


@pytest.mark.parametrize(
    ("technique", "said", "fix"),
    [
        ({"name": "lora", "layers": [0, 2]}, "has no layer 2 to adapt", "from 0 to 1"),
        ({"name": "lora", "rank_pattern": {"q_prj": 2}}, "no adapted module's name ends with `q_prj`", "q_proj"),
        ({"name": "dora", "alpha_pattern": {"lm_head": 2}}, "no adapted module's name ends with `lm_head`", "q_proj"),
        (
            {"name": "lora", "layers": [0], "rank_pattern": {"layers.1.mlp.up_proj": 2}},
            "no adapted module's name ends with `layers.1.mlp.up_proj`",
            "layers.0",
        ),
        ({"name": "lora", "modules_to_save": ["norms"]}, "no module of LlamaForCausalLM is called `norms`", "lm_head"),
        ({"name": "lora", "target_modules": []}, "technique.target_modules is empty", "all-linear"),
        ({"name": "lora", "init": "pissa", "rank": 17}, "can't find 17 singular values in a weight that has 16", "16"),
        (
            {"name": "ia3", "target_modules": ["keys"]},
            "no linear module of LlamaForCausalLM is called `keys`",
            "k_proj",
        ),
        (
            {"name": "ia3", "feedforward_modules": ["mlp"]},
            "technique.feedforward_modules: no linear module of LlamaForCausalLM is called `mlp`",
            "down_proj",
        ),
        ({"name": "lora", "init": "eva"}, "starts from training data, and none was given", "init: default"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(technique: dict[str, Any], said: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(tiny_model("llama"), row(technique))
    assert said in caught.value.message
    assert fix in caught.value.fix


def test_weights_that_the_embeddings_share_are_not_copied_and_not_rewritten() -> None:
    for name in ("lm_head", "embed_tokens"):
        with pytest.raises(UsageError, match="shares its weights"):
            prepare(tiny_model("phi3"), row({"name": "lora", "modules_to_save": [name]}))
    with pytest.raises(UsageError, match="this output head's are the embeddings too"):
        prepare(tiny_model("phi3"), row({"name": "lora", "rank": 2, "init": "pissa", "target_modules": ["lm_head"]}))


def test_ia3_asks_for_names_where_a_model_has_none_that_it_knows() -> None:
    model = tiny_model("llama")
    for layer in model.model.layers:
        for parent, old in ((layer.self_attn, "k_proj"), (layer.self_attn, "v_proj"), (layer.mlp, "down_proj")):
            parent.register_module(f"odd_{old}", parent._modules.pop(old))
    with pytest.raises(UsageError, match="is not known") as caught:
        prepare(model, row("ia3"))
    assert "odd_down_proj" in caught.value.fix


def test_eva_needs_as_many_tokens_as_directions(tmp_path: Path) -> None:
    short = write_tiny_dataset(tmp_path / "data", train=random_documents(1, low=5, high=6), packing=False)
    with pytest.raises(UsageError, match="batches of at least 8 tokens for rank 4"):
        prepare(tiny_model("llama"), row("lora-eva"), TrainingData(open_train(short), 0, torch.device("cpu")))


def test_documents_that_leave_virtual_tokens_no_room_are_refused(tmp_path: Path) -> None:
    data = TrainingData(open_train(tiny_dataset(tmp_path / "data")), 0, torch.device("cpu"))
    context = data.longest + 4
    model = tiny_model("llama", max_position_embeddings=context)
    with pytest.raises(UsageError, match=f"and 5 virtual ones don't fit the model's context of {context}") as caught:
        prepare(model, row("prefix-tuning"), data)
    assert f"Lower training.max_length to {context - 5}" in caught.value.fix
    prepare(model, row({"name": "prefix-tuning", "virtual_tokens": 4}), data)


def test_without_bitsandbytes_qlora_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    technique: Any = row("qlora")
    with pytest.raises(MissingDependencyError, match="needs the package `bitsandbytes`") as caught:
        models.load_model(save_model(tmp_path / "model"), quantization=technique)
    assert "azft[quant]" in caught.value.fix


def test_a_local_plan_for_qlora_asks_for_bitsandbytes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    from azft.modes import local
    from azft.recipe_file import RecipeFile

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    for name, missing in (("qlora", ["local-not-installed"]), ("lora", [])):
        read = RecipeFile(recipe({"name": name}), tmp_path / "recipe.yaml", {})
        found = [one for one in local._machine_findings(read, 1) if one.code == "local-not-installed"]
        assert [one.code for one in found] == missing
        assert all("bitsandbytes" in one.message and "azft[quant]" in one.fix for one in found)
