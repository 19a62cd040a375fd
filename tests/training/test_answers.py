"""Answers written in batches are the ones that each prompt gets alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from azft.training import answers
from azft.training.answers import greedy_answers
from azft.training.generate import stream_tokens
from azft.training.probe import token_loss
from tests.training.tiny import ARCHITECTURES, VOCABULARY, tiny_model

STOP = tuple(range(3, 12))
"""Enough of them that some answers end early."""


def prompts(count: int = 7) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(12, VOCABULARY, random.integers(2, 30)).tolist() for _ in range(count)]


def alone(model: Any, prompt: list[int]) -> list[int]:
    return list(stream_tokens(model, prompt, stop=STOP, max_new_tokens=9))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_changes_no_answer(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_TOGETHER", 4)
    model = tiny_model(architecture)
    model.set_attn_implementation("eager")
    expected = [alone(model, prompt) for prompt in prompts()]
    assert len({len(answer) for answer in expected}) > 1
    assert greedy_answers(model, prompts(), stop=STOP, max_new_tokens=9) == expected


def test_a_model_that_measures_documents_writes_with_its_cache_and_measures_on() -> None:
    model = tiny_model("llama")
    expected = [alone(model, prompt) for prompt in prompts()]
    token_loss(model, one_document=False)
    assert greedy_answers(model, prompts(), stop=STOP, max_new_tokens=9) == expected
    assert model.config._attn_implementation == "azft_documents"


def test_no_prompts_get_no_answers() -> None:
    assert greedy_answers(tiny_model("llama"), [], stop=[], max_new_tokens=3) == []
