"""DeepSpeed's configuration is the recipe's: made from it, or the user's own, which must not say anything else."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from azft.deepspeed_config import contradictions, make_config, require_agreement
from azft.errors import RecipeError, UsageError
from azft.recipe import Distribution, Training
from azft.recipe_file import load_recipe

RECIPE = """
name: sharded
task: chat-completion
model: tiny
data: {{train: train.jsonl}}
training: {{global_batch_size: 8, micro_batch_size: 2, max_grad_norm: 0.5, learning_rate: 1e-4, precision: bf16}}
distribution:
  strategy: deepspeed
  zero_stage: 3
  config: {config}
"""
AGREEING: dict[str, Any] = {
    "train_batch_size": 8,
    "train_micro_batch_size_per_gpu": 2,
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": 0.5,
    "bf16": {"enabled": True},
    "fp16": {"enabled": False},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": "auto", "torch_adam": True},
    },
    "zero_optimization": {"stage": 3, "reduce_bucket_size": 1000000, "offload_optimizer": {"device": "none"}},
    "wall_clock_breakdown": True,
}


def training(**values: Any) -> Training:
    return Training.model_validate({"global_batch_size": 8, "micro_batch_size": 2, **values})


def found(config: dict[str, Any], *, ranks: int | None = None, **distribution: Any) -> dict[str, tuple[str, str]]:
    section = Distribution.model_validate({"strategy": "deepspeed", **distribution})
    numbers = training(learning_rate=1e-4, precision="bf16")
    return {c.key: (c.message, c.fix) for c in contradictions(config, numbers, section, ranks=ranks)}


def test_what_is_made_says_what_the_recipe_says() -> None:
    section = Distribution.model_validate({"strategy": "deepspeed", "zero_stage": 3, "offload": "all"})
    config = make_config(training(max_grad_norm=0.5), section, ranks=3, on_gpu=False)
    assert config["train_micro_batch_size_per_gpu"] == 2
    assert config["gradient_accumulation_steps"] == 2  # of 8 sequences, 3 ranks take 2 each at a time
    assert config["gradient_clipping"] == 0.5
    assert config["zero_optimization"] == {
        "stage": 3,
        "offload_optimizer": {"pin_memory": False, "device": "cpu"},
        "offload_param": {"pin_memory": False, "device": "cpu"},
    }
    assert not {"optimizer", "scheduler", "fp16", "bf16"} & config.keys()


def test_the_users_own_keys_reach_deepspeed_beside_the_recipes(tmp_path: Path) -> None:
    recipe = load(tmp_path, json.dumps(AGREEING))
    config = make_config(recipe.training, recipe.distribution, ranks=2, on_gpu=True)
    assert config["zero_optimization"] == {"stage": 3, "reduce_bucket_size": 1000000}
    assert config["wall_clock_breakdown"] is True
    assert config["gradient_accumulation_steps"] == 2
    assert not {"optimizer", "bf16", "train_batch_size"} & config.keys()


def load(folder: Path, config: str) -> Any:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(config=config))
    return load_recipe(path).recipe


def test_a_file_and_the_same_mapping_are_the_same_recipe(tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(json.dumps(AGREEING))
    assert load(tmp_path, "ds.json") == load(tmp_path, json.dumps(AGREEING))
    assert load(tmp_path, "ds.json").distribution.config == AGREEING


@pytest.mark.parametrize(
    ("config", "key", "message", "fix"),
    [
        ({"train_batch_size": 16}, "train_batch_size", "it is 16", "Set training.global_batch_size: 16"),
        (
            {"train_micro_batch_size_per_gpu": 4}, "train_micro_batch_size_per_gpu",
            "the recipe's training.micro_batch_size is 2", "Set training.micro_batch_size: 4",
        ),
        ({"gradient_clipping": 2.0}, "gradient_clipping", "the recipe's training.max_grad_norm is 1", "max_grad_norm"),
        ({"fp16": {"enabled": True}}, "fp16.enabled", "precision is bf16", "Set training.precision: fp16"),
        ({"bf16": {"enabled": False}}, "bf16.enabled", "it is false", "Set training.precision: fp32"),
        ({"optimizer": {"type": "Lamb"}}, "optimizer.type", "it is Lamb", "Leave optimizer out"),
        ({"optimizer": {"params": {"lr": 1e-3}}}, "optimizer.params.lr", "it is 0.001", "training.learning_rate"),
        ({"optimizer": {"params": {"amsgrad": True}}}, "optimizer.params.amsgrad", "no such", "Leave amsgrad out"),
        ({"zero_optimization": {"stage": 3}}, "zero_optimization.stage", "zero_stage is 2", "Set distribution.zero"),
        ({"zero_optimization": {"stage": 0}}, "zero_optimization.stage", "it is 0", "Set it to 1, 2 or 3"),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}},
            "zero_optimization.offload_optimizer.device", "offload is none", "Set distribution.offload: optimizer",
        ),
        (
            {"zero_optimization": {"offload_param": {"device": "nvme"}}},
            "zero_optimization.offload_param.device", "host's memory only", "Set it to cpu",
        ),
        ({"scheduler": {"type": "WarmupLR"}}, "scheduler", "training.schedule", "Leave scheduler out"),
        ({"train_batchsize": 8}, "train_batchsize", "does not know this key", "Did you mean train_batch_size?"),
        ({"compression_training": {}}, "compression_training", "does not know", "Leave compression_training out"),
    ],
)  # fmt: skip
def test_a_contradiction_names_the_key_and_what_to_do(config: dict[str, Any], key: str, message: str, fix: str) -> None:
    wrong = found(config)
    assert list(wrong) == [key]
    assert message in wrong[key][0]
    assert fix in wrong[key][1]
    assert wrong[key][1][-1] in ".?"


def test_offload_that_the_recipe_asks_for_and_the_file_turns_off_is_one_too() -> None:
    config = {"zero_optimization": {"offload_optimizer": {"device": "none"}}}
    assert found(config, offload="optimizer")["zero_optimization.offload_optimizer.device"][1].endswith("none.")
    assert not found({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, offload="optimizer")


def test_accumulation_steps_are_judged_once_the_ranks_are_known() -> None:
    assert not found({"gradient_accumulation_steps": 2})
    assert not found({"gradient_accumulation_steps": 2}, ranks=2)
    assert "takes 4" in found({"gradient_accumulation_steps": 2}, ranks=1)["gradient_accumulation_steps"][0]
    with pytest.raises(UsageError, match="gradient_accumulation_steps") as caught:
        section = Distribution.model_validate({"strategy": "deepspeed"})
        require_agreement({"gradient_accumulation_steps": 2}, training(), section, ranks=1)
    assert caught.value.fix == "Leave gradient_accumulation_steps out."


def test_all_contradictions_are_findings_on_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    lines = ["", "    gradient_clipping: 3", "    zero_optimization:", "      stage: 1"]
    path.write_text(RECIPE.format(config="\n".join(lines)))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert [(f.code, f.line) for f in caught.value.findings] == [
        ("recipe-deepspeed-config", 11),
        ("recipe-deepspeed-config", 13),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "can't be read: No such file"), ("{", "is not JSON"), ("[1]", "is no mapping")],
)
def test_a_file_that_is_no_configuration_is_a_finding(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "ds.json").write_text(content)
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, "ds.json")
    (finding,) = caught.value.findings
    assert message in finding.message
    assert finding.line == 10


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"strategy": "ddp", "zero_stage": 3}, "`zero_stage` is DeepSpeed's"),
        ({"strategy": "fsdp", "config": {}}, "`config` is DeepSpeed's"),
        ({"strategy": "ddp", "offload": "all"}, "can't be had with `strategy: ddp`"),
        ({"strategy": "fsdp", "offload": "optimizer"}, "moves all or nothing"),
        ({"strategy": "deepspeed", "zero_stage": 2, "offload": "all"}, "can't be had in stage 2"),
    ],
)
def test_what_a_strategy_has_not_is_refused(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Distribution.model_validate(section)


def test_a_local_plan_asks_for_deepspeed_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from azft.modes import local

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "deepspeed" else find(name))
    for strategy, missing in (("deepspeed", ["pip install 'azft[deepspeed]'"]), ("fsdp", [])):
        path = tmp_path / "recipe.yaml"
        path.write_text(RECIPE.format(config="{}"))
        overrides = [f"distribution.strategy={strategy}", "distribution.zero_stage=2", "distribution.config=null"]
        read = load_recipe(path, overrides=overrides)
        found = [one for one in local._machine_findings(read, 2) if one.code == "local-not-installed"]
        assert [one.fix.partition(": ")[2] for one in found] == missing
