"""Attention in which each document of a batch sees only itself, without a dense mask.

A batch is one long row of tokens, (1, tokens), with its documents one after another. transformers would build a
(tokens, tokens) mask for that; here scaled-dot-product attention runs once per document, so that time and memory grow
with the documents' lengths and not with the batch's. On a GPU one kernel does it for all documents at once, where it
has proven itself (`azft.training.kernels`). Whether a model really obeys is proven by `azft.training.probe`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from azft.training import kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

NAME = "azft_documents"
"""As transformers knows it. Must not contain "flash": transformers treats such names specially."""


def register(function: Callable[..., Any] | None = None) -> None:
    """Make `NAME` known to transformers. No mask function is registered, so none is built and no mask is passed."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, function or document_attention)


@contextmanager
def watched() -> Iterator[set[int | None]]:
    """Collect the sliding windows that layers ask for inside the block; `NAME` is registered afterwards too."""
    windows: set[int | None] = set()

    def watch(*args: Any, sliding_window: int | None = None, **kwargs: Any) -> tuple[Tensor, None]:
        windows.add(sliding_window)
        return document_attention(*args, sliding_window=sliding_window, **kwargs)

    register(watch)
    try:
        yield windows
    finally:
        register()


def document_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    document_lengths: Sequence[int] | None = None,
    prefix: Sequence[tuple[Tensor, Tensor]] | None = None,
    **_unused: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document; transformers' attention interface.

    Args:
        module: The calling layer; its number says which part of the prefix is its own.
        query: (1, heads, tokens, head_dim).
        key: (1, key_value_heads, tokens, head_dim); the heads are shared in groups (GQA) where there are fewer.
        value: As `key`.
        attention_mask: Always None here.
        dropout: Probability of dropping an attention weight.
        scaling: Factor of the scores; 1/sqrt(head_dim) by default.
        sliding_window: A token sees itself and this many minus one before it (Mistral, Phi-3, Gemma-2).
        softcap: Scores become softcap * tanh(score / softcap) (Gemma-2).
        document_lengths: Tokens of each document; they add up to `tokens`.
        prefix: For each layer keys and values, (1, key_value_heads, virtual, head_dim) each, that stand before those of
            every document (prefix tuning).

    Returns:
        (1, tokens, heads, head_dim), and None in place of the weights.
    """
    if document_lengths is None or attention_mask is not None:
        raise RuntimeError("document attention was called without document lengths, or with a mask")
    lengths = list(document_lengths)
    kind = kernels.takes(query, key, dropout) if prefix is None and softcap is None else None
    if kind is not None:
        return kernels.varlen(query, key, value, lengths, kind=kind, scaling=scaling, window=sliding_window), None
    parts = zip(*(torch.split(tensor, lengths, 2) for tensor in (query, key, value)), strict=True)
    if prefix is not None:
        before, outputs = prefix[cast("int", module.layer_idx)], []
        virtual = before[0].shape[2]
        for queries, *own in parts:
            # Queries of zeros stand before the others, so that query and key n are the same token's.
            q = F.pad(queries, (0, 0, virtual, 0))
            k, v = (torch.cat([first.to(rest.dtype), rest], 2) for first, rest in zip(before, own, strict=True))
            outputs.append(one_document(q, k, v, dropout, scaling, sliding_window, softcap)[:, :, virtual:])
    else:
        outputs = [one_document(q, k, v, dropout, scaling, sliding_window, softcap) for q, k, v in parts]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)
    return joined.transpose(1, 2), None


def one_document(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout: float,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Causal attention of one document, in torch's operators; (1, heads, tokens, head_dim)."""
    length = query.shape[2]
    if softcap is None and (window is None or window >= length):
        return F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
        )
    # A block of queries as long as the window reaches back over one block of keys at most: so the mask is
    # (window, 2 * window) however long the document is.
    reach = min(window or length, length)
    blocks = []
    for start in range(0, length, reach):
        stop, first = min(start + reach, length), max(0, start - reach + 1)
        rows = torch.arange(start, stop, device=query.device)[:, None]
        columns = torch.arange(first, stop, device=query.device)[None]
        visible = (columns <= rows) & (columns > rows - reach)
        q, k, v = query[:, :, start:stop], key[:, :, first:stop], value[:, :, first:stop]
        if softcap is None:
            blocks.append(
                F.scaled_dot_product_attention(
                    q, k, v, attn_mask=visible, dropout_p=dropout, scale=scaling, enable_gqa=True
                )
            )
        else:
            blocks.append(_softcapped(q, k, v, visible, dropout, scaling, softcap))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 2)


def _softcapped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: Tensor,
    dropout: float,
    scaling: float | None,
    softcap: float,
) -> Tensor:
    """Written out, because no fused kernel caps scores; softmax in at least fp32, as the models' own code does."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(2, 3) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~visible, float("-inf"))
    weights = torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(query.dtype)
    return F.dropout(weights, dropout, training=dropout > 0) @ value
