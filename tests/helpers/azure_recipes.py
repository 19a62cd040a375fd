"""Recipes for plans of Azure: forty chats, a recipe file, and the smallest section of each mode."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from azft.azure_plan import make_azure_plan
from azft.plan import Plan
from azft.recipe_file import RecipeFile, load_recipe

SECTIONS: dict[str, dict[str, Any]] = {
    "maas": {"maas": {"region": "eastus2"}},
    "azft": {"maap": {"compute": "gpu-cluster", "vm_size": "Standard_NC24ads_A100_v4"}},
    "azft-sizes": {"maap": {"instance_types": ["Standard_NC24ads_A100_v4"]}},
    "system": {"maap": {"compute": "gpu-cluster", "vm_size": "Standard_NC24ads_A100_v4", "pipeline": "system"}},
    "finetuning": {"maap": {"instance_types": ["Standard_NC24ads_A100_v4"], "pipeline": "finetuning"}},
}
"""A name for each target -> the recipe's `modes`."""
MODES = {name: "maas" if name == "maas" else "maap" for name in SECTIONS}


def write_rows(path: Path, count: int = 40, start: int = 0) -> Path:
    with path.open("w") as file:
        for n in range(start, start + count):
            turns = [
                {"role": "user", "content": f"What is {n} plus {n}?"},
                {"role": "assistant", "content": f"It is {2 * n}."},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    return path


def azure_recipe(folder: Path, target: str, *overrides: str, **changes: Any) -> RecipeFile:
    """A recipe file in a folder; `changes` replace top-level keys (None removes one)."""
    folder.mkdir(parents=True, exist_ok=True)
    for start, name in ((0, "train"), (100, "validation"), (200, "test")):
        if not (folder / f"{name}.jsonl").exists():
            write_rows(folder / f"{name}.jsonl", 40 if name == "train" else 10, start)
    recipe = {
        "name": "sums",
        "task": "chat-completion",
        "model": "Phi-4-mini-instruct",
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "modes": SECTIONS[target],
        **changes,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in recipe.items() if value is not None}, sort_keys=False))
    return load_recipe(path, overrides=overrides, environment={})


def azure_plan(folder: Path, target: str, *overrides: str, **changes: Any) -> Plan:
    """The plan of `azure_recipe`."""
    return make_azure_plan(azure_recipe(folder, target, *overrides, **changes), MODES[target])


def codes(plan: Plan, severity: str | None = None) -> set[str]:
    """Codes of a plan's findings."""
    return {f.code for f in plan.findings if severity is None or f.severity == severity}
