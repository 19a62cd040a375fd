"""The recipe's classes: what a recipe may say, and what each default is worth."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from azft.recipe import Recipe, Training
from azft.recipe_errors import all_keys, models_at
from azft.tasks import TASKS
from azft.techniques import TECHNIQUES

SMALLEST: dict[str, Any] = {"name": "a", "task": "chat-completion", "model": "m", "data": {"train": "t.jsonl"}}


def recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({**SMALLEST, **changes})


def test_four_keys_are_a_recipe() -> None:
    assert recipe().technique.name == "lora"
    assert recipe().model_name == "a"


def test_the_learning_rate_is_the_techniques_unless_given() -> None:
    assert recipe().learning_rate == 2e-4
    assert recipe(technique={"name": "full"}).learning_rate == 2e-5
    assert recipe(training={"learning_rate": 1e-3}).learning_rate == 1e-3


@pytest.mark.parametrize("task", TASKS)
def test_preferences_are_tuned_at_a_lower_rate_than_anything_else(task: str) -> None:
    if task != "preference-tuning":
        for name, kind in TECHNIQUES.items():
            assert recipe(task=task, technique={"name": name}).learning_rate == kind.default_learning_rate
        return
    rates = {name: recipe(task=task, technique={"name": name}).learning_rate for name in TECHNIQUES}
    assert (rates["full"], rates["lora"], rates["qlora"]) == (5e-7, 5e-6, 5e-6)
    for name, kind in TECHNIQUES.items():
        assert rates[name] * 40 == pytest.approx(kind.default_learning_rate)
    assert recipe(task=task, training={"learning_rate": 2e-4}).learning_rate == 2e-4


def test_the_description_of_the_rate_tells_of_tasks_that_want_less() -> None:
    assert "2e-4 lora" in str(Training.model_fields["learning_rate"].description)
    assert "for preference-tuning 1/40 of that" in str(Training.model_fields["learning_rate"].description)


def test_a_recipe_survives_json() -> None:
    full = recipe(training={"epochs": 1.5, "max_steps": 7}, technique={"name": "lora", "target_modules": ["q_proj"]})
    assert Recipe.model_validate_json(full.model_dump_json()) == full
    assert Recipe.model_validate(full.to_dict()) == full


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("training", {"epochs": 0}),
        ("training", {"epochs": float("nan")}),
        ("training", {"weight_decay": float("inf")}),
        ("training", {"global_batch_size": 6, "micro_batch_size": 4}),
        ("training", {"seed": -1}),
        ("technique", {"name": "lora", "alpha": float("inf")}),
        ("technique", {"name": "full", "rank": 4}),
        ("data", {"train": "t.jsonl", "validation": "v.jsonl", "validation_split": 0.1}),
        ("modes", {"local": {"processes": 2}}),
        ("name", "../escape"),
        ("name", ""),
        ("task", "chat"),
        ("unknown", 1),
    ],
)
def test_values_without_a_meaning_are_refused(section: str, values: object) -> None:
    with pytest.raises(ValidationError):
        recipe(**{section: values})


def test_several_local_processes_are_fine_with_a_strategy() -> None:
    assert recipe(modes={"local": {"processes": 2}}, distribution={"strategy": "ddp"}).modes.local.processes == 2


def test_every_key_has_a_description() -> None:
    for key in all_keys():
        parts = tuple(key.split("."))
        for model in models_at(parts[:-1]):
            field = model.model_fields.get(parts[-1])
            assert field is None or field.description, key


def test_every_section_is_strict_and_frozen() -> None:
    sections: set[type[BaseModel]] = {Recipe, *TECHNIQUES.values()}
    for key in all_keys():
        sections.update(models_at(tuple(key.split("."))))
    for section in sections:
        assert section.model_config.get("extra") == "forbid"
        assert section.model_config.get("frozen") is True
