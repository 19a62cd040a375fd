"""What a model writes after many prompts: greedily, in batches, each answer the one that the prompt would get alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from azft.training.attention import NAME
from azft.training.batches import side_by_side
from azft.training.generate import generation_settings
from azft.training.models import unwrapped

_TOGETHER = 16
"""Prompts in a batch: their caches must fit beside a model that has just been trained."""


@torch.no_grad()
def greedy_answers(
    model: Any, prompts: Sequence[Sequence[int]], *, stop: Sequence[int], max_new_tokens: int
) -> list[list[int]]:
    """Token ids that follow each prompt, the likeliest each time, up to a token of `stop`, which is left out.

    For an encoder-decoder the prompts are what the encoder reads. Prompts of about equal length share a batch; shorter
    ones are filled up on the left, where the mask and the positions leave the filler out.
    """
    settings = generation_settings(model, stop=stop, max_new_tokens=max_new_tokens)
    filler = settings.pad_token_id
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    with _cached_attention(model):
        for start in range(0, len(order), _TOGETHER):
            members = order[start : start + _TOGETHER]
            ids, mask = side_by_side([prompts[number] for number in members], filler=filler, left=True)
            ids, mask = ids.to(model.device), mask.to(model.device)
            written = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
            begin = 1 if unwrapped(model).config.is_encoder_decoder else ids.shape[1]
            for number, row in zip(members, written[:, begin:].tolist(), strict=True):
                answers[number] = row[: next((i for i, token in enumerate(row) if token in stop), len(row))]
    return answers


@contextmanager
def _cached_attention(model: Any) -> Iterator[None]:
    """The model's own attention instead of the documents', which has no cache, until the block ends."""
    inner = unwrapped(model)
    measuring = inner.config._attn_implementation
    if measuring == NAME:
        inner.set_attn_implementation("eager" if getattr(inner.config, "attn_logit_softcapping", None) else "sdpa")
    try:
        yield
    finally:
        inner.set_attn_implementation(measuring)
