"""How counts, sizes, times and models are said."""

from __future__ import annotations

import pytest

from azft.words import minute, model_name

REGISTRY = "azureml://registries/azureml/models/Phi-4-mini-instruct"


@pytest.mark.parametrize(
    ("identifier", "said"),
    [
        (f"{REGISTRY}/labels/latest", "Phi-4-mini-instruct, the newest version in the registry azureml"),
        (f"{REGISTRY}/versions/7", "Phi-4-mini-instruct, version 7 in the registry azureml"),
        (f"{REGISTRY}/labels/stable", "Phi-4-mini-instruct, the version labelled stable in the registry azureml"),
        ("azureml:azft-model-3f2a:1", "azureml:azft-model-3f2a:1"),
        ("the folder /models/mine", "the folder /models/mine"),
    ],
)
def test_a_registrys_model_is_said_in_words_and_any_other_as_it_is(identifier: str, said: str) -> None:
    assert model_name(identifier) == said


@pytest.mark.parametrize("written", ["2026-11-24T03:40:12.345+00:00", "2026-11-24T03:40:12.3451230Z"])
def test_a_time_is_said_to_the_minute(written: str) -> None:
    assert minute(written) == "2026-11-24 03:40"
