"""Step parameters: only what a step uses, read back strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from azft.errors import UsageError
from azft.parameters import EvaluateParameters, FinetuneParameters, PackageParameters, Parameters, PrepareParameters
from azft.recipe import Recipe

STEPS: tuple[Any, ...] = (PrepareParameters, FinetuneParameters, EvaluateParameters, PackageParameters)


def recipe(**changes: Any) -> Recipe:
    base = {"name": "x", "task": "chat-completion", "model": "m", "data": {"train": "train.jsonl"}}
    return Recipe.model_validate({**base, **changes})


@pytest.mark.parametrize("step", STEPS)
def test_parameters_survive_the_file_and_hash_alike(step: Any, tmp_path: Path) -> None:
    parameters: Parameters = step.of(recipe())
    file = tmp_path / "parameters.json"
    file.write_bytes(parameters.to_json())
    assert step.read(file) == parameters
    assert step.read(file).to_json() == parameters.to_json()


def test_a_training_setting_does_not_make_the_data_step_run_again() -> None:
    before, after = recipe(), recipe(training={"learning_rate": 1e-3, "epochs": 1}, technique={"name": "full"})
    assert PrepareParameters.of(before).to_json() == PrepareParameters.of(after).to_json()
    assert FinetuneParameters.of(before).to_json() != FinetuneParameters.of(after).to_json()


def test_the_learning_rate_is_the_recipes_or_the_techniques() -> None:
    assert FinetuneParameters.of(recipe()).training.learning_rate == 2e-4
    assert FinetuneParameters.of(recipe(technique={"name": "full"})).training.learning_rate == 2e-5
    assert FinetuneParameters.of(recipe(training={"learning_rate": 3e-3})).training.learning_rate == 3e-3


def test_a_sweeps_typed_inputs_win_over_the_file() -> None:
    parameters = FinetuneParameters.of(recipe()).override(learning_rate=1e-5, epochs=None, seed=7)
    assert (parameters.training.learning_rate, parameters.training.epochs, parameters.training.seed) == (1e-5, 3, 7)


def test_a_validation_file_turns_the_split_off() -> None:
    assert PrepareParameters.of(recipe()).validation_split == 0.1
    with_file = recipe(data={"train": "t.jsonl", "validation": "v.jsonl"})
    assert PrepareParameters.of(with_file).validation_split is None


def test_a_damaged_parameters_file_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    file.write_text('{"task": "chat-completion", "speed": 9}')
    with pytest.raises(UsageError, match="speed"):
        PrepareParameters.read(file)
