"""Every key of the recipe has a row for every target: it changes what is sent, or the plan says that it doesn't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from azft import api
from azft.azure_plan import TABLES
from azft.plan import Plan
from azft.recipe import Recipe
from azft.targets.table import Elsewhere, NotOffered, Told, is_set, leaves, plain
from tests.helpers.azure_recipes import MODES, SECTIONS, azure_plan, azure_recipe, write_rows

OTHER_MODES = {
    "maas": ("modes.local.", "modes.maap."),
    "maap": ("modes.local.", "modes.maas."),
}
"""Sections that are another mode's: they must change nothing at all."""

CHANGED: dict[str, Any] = {
    "name": "other",
    "description": "a line",
    "task": None,  # this version has one task
    "model": "Phi-4",
    "model_revision": "abc",
    "trust_remote_code": True,
    "data.train": "more.jsonl",
    "data.validation": "more.jsonl",
    "data.validation_split": 0.3,
    "data.test": "test.jsonl",
    "data.columns": {"messages": "chat"},
    "data.prompt": "Say: {messages}",
    "data.labels": ["yes", "no"],
    "data.resolution": 256,
    "data.long_rows": "split",
    "technique.name": "full",
    "technique.rank": 4,
    "technique.alpha": 8,
    "technique.dropout": 0.1,
    "technique.target_modules": ["q_proj"],
    "technique.use_rslora": True,
    "technique.init": "pissa",
    "technique.layers": [1],
    "technique.rank_pattern": {"q_proj": 2},
    "technique.alpha_pattern": {"q_proj": 2},
    "technique.modules_to_save": ["lm_head"],
    "technique.head": True,
    "technique.use_dora": True,
    "technique.quantization": "fp4",
    "technique.double_quantization": False,
    "technique.feedforward_modules": ["down_proj"],
    "technique.virtual_tokens": 4,
    "technique.init_text": "Answer briefly.",
    "technique.projection": True,
    "technique.hidden_size": 8,
    "technique.encoder": "lstm",
    "training.epochs": 5,
    "training.max_steps": 7,
    "training.learning_rate": 0.001,
    "training.schedule": "linear",
    "training.warmup_ratio": 0.2,
    "training.global_batch_size": 8,
    "training.micro_batch_size": 2,
    "training.max_length": 128,
    "training.packing": False,
    "training.precision": "fp32",
    "training.weight_decay": 0.1,
    "training.adam_beta1": 0.8,
    "training.adam_beta2": 0.9,
    "training.adam_epsilon": 1e-6,
    "training.max_grad_norm": 2.0,
    "training.gradient_checkpointing": True,
    "training.kernels": "torch",
    "training.dpo_beta": 0.2,
    "training.seed": 7,
    "training.logging_steps": 3,
    "training.eval_steps": 5,
    "training.save_steps": 5,
    "training.save_total_limit": 1,
    "training.early_stopping_patience": 2,
    "training.early_stopping_threshold": 0.1,
    "distribution.strategy": "ddp",
    "distribution.zero_stage": 3,
    "distribution.offload": "all",
    "distribution.config": {"wall_clock_breakdown": True},
    "evaluation.samples": 1,
    "evaluation.generate_rows": 5,
    "evaluation.max_new_tokens": 8,
    "modes.local.processes": 1,
    "modes.local.weights": "real",
    "modes.maas.region": "westus",
    "modes.maas.route": "azureml",
    "modes.maap.compute": "other-cluster",
    "modes.maap.instance_types": ["Standard_NC40ads_H100_v5"],
    "modes.maap.vm_size": "Standard_NC40ads_H100_v5",
    "modes.maap.nodes": 2,
    "modes.maap.gpus_per_node": 2,
    "modes.maap.tier": "low-priority",
    "modes.maap.pipeline": None,  # it is what tells the targets apart
    "modes.maap.parameters": {"optim": "adafactor"},
    "modes.maap.max_nodes": 3,
    "modes.maap.idle_seconds": 600,
    "output.model_name": "better-name",
    "output.merge": False,
}


TECHNIQUE_OF: dict[str, dict[str, Any]] = {
    "technique.head": {"name": "freeze"},
    "technique.use_dora": {"name": "qlora"},
    "technique.quantization": {"name": "qlora"},
    "technique.double_quantization": {"name": "qlora"},
    "technique.feedforward_modules": {"name": "ia3"},
    "technique.virtual_tokens": {"name": "prompt-tuning"},
    "technique.init_text": {"name": "prompt-tuning", "init": "text", "init_text": "Answer."},
    "technique.projection": {"name": "prefix-tuning"},
    "technique.hidden_size": {"name": "p-tuning"},
    "technique.encoder": {"name": "p-tuning"},
}
"""Keys that LoRA has not: with which technique they can be said."""


@pytest.fixture
def no_data_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data's own findings have their own tests."""
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())


def planned(plan: Plan) -> tuple[Any, Any]:
    """What is planned, and what a person is told; without the hash and the recipe, which cover all."""
    target = plan.target.model_dump(mode="json") if plan.target else {}
    return target, [finding.to_dict() | {"line": None} for finding in plan.findings]


def sent(plan: Plan) -> str:
    """The payload without names that the hash decides."""
    return json.dumps(api.payload(plan), sort_keys=True).replace(plan.hash, "HASH").replace(plan.run_name, "RUN")


def test_the_walk_covers_every_key_of_the_recipe() -> None:
    assert set(CHANGED) == set(leaves())


@pytest.mark.parametrize("service", TABLES)
def test_every_key_has_a_row_in_every_table(service: str) -> None:
    assert set(TABLES[service]) == set(leaves())
    for path, row in TABLES[service].items():
        assert isinstance(row, Told | Elsewhere | NotOffered), path


@pytest.mark.parametrize("target", ["maas", "azft", "system", "finetuning"])
@pytest.mark.parametrize("path", [path for path, value in CHANGED.items() if value is not None])
def test_no_key_is_silently_ignored(no_data_check: None, tmp_path: Path, target: str, path: str) -> None:
    write_rows(tmp_path / "more.jsonl", 20, 300)
    base = azure_plan(tmp_path, target)
    changes: dict[str, Any] = {}
    if path == "data.validation_split":  # one of the two
        changes["data"] = {"train": "train.jsonl"}
    if path in TECHNIQUE_OF:
        changes["technique"] = TECHNIQUE_OF[path]
    if path.startswith("distribution.") and path != "distribution.strategy":
        changes["distribution"] = {"strategy": "fsdp" if path.endswith("offload") else "deepspeed"}
    if changes:
        base = azure_plan(tmp_path, target, **changes)
    overrides = (f"{path}={json.dumps(CHANGED[path])}",)
    if path == "modes.maap.parameters" and target == "finetuning":
        overrides = ('modes.maap.parameters={"optim": "adafactor"}',)
    changed = azure_plan(tmp_path, target, *overrides, **changes)
    if path.startswith(OTHER_MODES[MODES[target]]):
        assert planned(changed) == planned(base)
        assert changed.hash == base.hash
    else:
        # A payload takes a quarter of a second to build, so it is asked only where nothing else differs.
        differs = planned(changed) != planned(base) or sent(changed) != sent(base)
        assert differs, f"{path} has no effect on {target}, and nothing says so"


@pytest.mark.parametrize("target", SECTIONS)
def test_a_key_that_is_not_offered_warns_with_its_line_only_when_the_user_set_it(
    no_data_check: None, tmp_path: Path, target: str
) -> None:
    quiet = azure_plan(tmp_path, target)
    assert not [f for f in quiet.findings if f.code == "azure-not-offered"]
    loud = azure_plan(tmp_path, target, training={"packing": True}, evaluation={"samples": 3})
    found = [f for f in loud.findings if f.code == "azure-not-offered"]
    if target.startswith("azft"):
        assert found == []
    else:
        assert {f.severity for f in found} == {"warning"}
        assert {f.message.split("`")[1].split(":")[0] for f in found} == {"training.packing", "evaluation.samples"}
        text = (tmp_path / "recipe.yaml").read_text().splitlines()
        assert all("packing" in text[f.line - 1] or "samples" in text[f.line - 1] for f in found if f.line)


def test_a_value_counts_as_the_users_wherever_it_comes_from(tmp_path: Path) -> None:
    recipe = azure_recipe(tmp_path, "maas", "training.epochs=2", training={"seed": 1}).recipe
    assert is_set(recipe, "training.epochs")
    assert is_set(recipe, "training.seed")
    assert not is_set(recipe, "training.max_steps")
    assert not is_set(recipe, "technique.rank")


def test_leaves_are_the_keys_that_hold_a_value() -> None:
    found = set(leaves())
    assert {"name", "data.train", "technique.rank", "modes.maap.nodes", "output.merge"} <= found
    assert not found & {"data", "technique", "modes", "modes.maap"}
    assert {path.split(".")[0] for path in found} == set(Recipe.model_fields)


@pytest.mark.parametrize(
    ("value", "text"), [(2e-5, "0.00002"), (0.0002, "0.0002"), (3.0, "3"), (1e-8, "0.00000001"), (0.5, "0.5")]
)
def test_numbers_are_said_without_an_exponent(value: float, text: str) -> None:
    assert plain(value) == text
    assert float(text) == value
