"""Models that can't keep documents apart are found out before training, and refused with what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from azft.errors import UsageError
from azft.training import attention
from azft.training.batches import assemble
from azft.training.probe import token_loss
from tests.training.tiny import ARCHITECTURES, random_documents, tiny_model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tested_architectures_pass_in_fp32_and_bf16(architecture: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert token_loss(tiny_model(architecture).to(dtype), one_document=False) is not None


def leaky(model: Any) -> Any:
    """A layer that looks across documents whatever attention does, as a recurrent one would."""
    original = model.model.layers[0].forward
    model.model.layers[0].forward = lambda hidden, **rest: original(hidden.cumsum(1) / 10, **rest)
    return model


def test_a_model_that_leaks_is_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="LlamaForCausalLM can't keep the documents of one batch apart") as caught:
        token_loss(leaky(tiny_model("llama")), one_document=False)
    assert caught.value.fix == "Set training.packing: false and training.micro_batch_size: 1."


def test_with_one_document_a_batch_a_leaky_model_is_trained_with_its_own_attention() -> None:
    model = leaky(tiny_model("llama"))
    document = random_documents(1)[0]
    expected = model(input_ids=torch.from_numpy(document[0])[None], use_cache=False).logits[0]
    module = token_loss(model, one_document=True)
    assert model.config._attn_implementation == "sdpa"
    rows = module.hidden_states(assemble([document]))
    torch.testing.assert_close(model.lm_head(rows), expected[assemble([document]).rows], rtol=1e-5, atol=1e-5)


def test_a_model_that_keeps_lengths_from_its_attention_is_refused() -> None:
    model = tiny_model("llama")
    original = model.model.forward
    model.model.forward = lambda document_lengths=None, **rest: original(**rest)
    with pytest.raises(UsageError, match="without document lengths"):
        token_loss(model, one_document=False)


def test_a_sliding_window_that_layers_do_not_pass_on_is_refused() -> None:
    """The probe's documents are short, so a window that is lost would not show in their numbers."""
    model = tiny_model("llama")
    model.config.sliding_window = 4096
    with pytest.raises(UsageError, match="sliding window of 4096 tokens does not reach"):
        token_loss(model, one_document=False)


def test_chunked_attention_is_refused() -> None:
    model = tiny_model("llama")
    model.config.attention_chunk_size = 8192
    with pytest.raises(UsageError, match="chunks"):
        token_loss(model, one_document=False)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("window", [None, 1, 5, 16, 100])
@pytest.mark.parametrize("length", [1, 5, 16, 33])
def test_blocks_of_a_window_equal_one_dense_mask(length: int, window: int | None, softcap: float | None) -> None:
    torch.manual_seed(0)
    query = torch.randn(1, 4, length, 8, dtype=torch.float64)
    key, value = torch.randn(2, 1, 2, length, 8, dtype=torch.float64)
    actual, _ = attention.document_attention(
        torch.nn.Module(), query, key, value, None, sliding_window=window, softcap=softcap, document_lengths=[length]
    )
    distance = torch.arange(length)[:, None] - torch.arange(length)[None]
    visible = (distance >= 0) & (distance < (window or length))
    scores = query @ key.repeat_interleave(2, 1).transpose(2, 3) / np.sqrt(8)
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    weights = torch.softmax(scores.masked_fill(~visible, -torch.inf), -1)
    expected = (weights @ value.repeat_interleave(2, 1)).transpose(1, 2)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
