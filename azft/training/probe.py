"""Proof, on the actual model and before training, that documents don't see each other and that the head is plain.

Architectures differ, and one that ignores what it is told would train on a leak without any error. So the model itself
is asked: is a document's outcome in a batch of three the same as alone, in the model's own attention?
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from azft.data.dataset import Document
from azft.errors import AzftError, UsageError
from azft.training import attention
from azft.training.batches import Batch, assemble
from azft.training.loss import HeadLoss, TokenLoss
from azft.training.models import unwrapped
from azft.training.sequence_to_sequence import SequenceToSequenceLoss, assemble_pairs, before

_LENGTHS = (13, 41, 7)
_TOLERANCE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Relative; a leak shows as 0.5 and more, rounding as 1e-6 in fp32 and 5e-3 in bf16. Models keep parts in fp32."""

_LARGER = 16
"""How much larger than they are hidden states are made; exact in every type."""


class LeakError(AzftError):
    """Documents of one batch would see each other in this model."""


def token_loss(model: Any, *, one_document: bool) -> TokenLoss:
    """Make a model (transformers' or peft's) ready for batches of several documents, and wrap it in its loss.

    Args:
        model: In evaluation mode. Its attention implementation is replaced.
        one_document: Whether every batch will hold one document. Then a model that can't keep documents apart is used
            as it is, because there is nothing to keep apart.

    Raises:
        UsageError: The model can't keep documents apart and `one_document` is false.
    """
    inner = unwrapped(model)
    stock = inner.config._attn_implementation
    try:
        use_document_attention(inner)
    except LeakError as error:
        inner.set_attn_implementation(stock)
        if not one_document:
            raise UsageError(
                f"{type(inner).__name__} can't keep the documents of one batch apart: {error.message}",
                fix="Set training.packing: false and training.micro_batch_size: 1.",
            ) from error
    batch = assemble(_documents(inner)[:1])
    return TokenLoss(model, plain_head=_has_plain_head(TokenLoss(inner, plain_head=True), batch))


def sequence_to_sequence_loss(model: Any) -> SequenceToSequenceLoss:
    """Wrap an encoder-decoder (transformers' or peft's), in evaluation mode, in its loss.

    Raises:
        UsageError: The model does not say with which token its decoder begins.
    """
    inner = unwrapped(model)
    halves = [(ids, (np.arange(len(ids)) >= len(ids) // 2).astype(np.uint8)) for ids, _ in _documents(inner)]
    batch = assemble_pairs([Document(ids, mask) for ids, mask in halves])
    plain = _has_plain_head(SequenceToSequenceLoss(inner, plain_head=True), batch)
    return SequenceToSequenceLoss(model, plain_head=plain)


@torch.no_grad()
def use_document_attention(model: Any) -> None:
    """Switch a transformers model to document attention; `LeakError` says why where it does not work."""
    training = model.training
    model.eval()
    try:
        documents = _documents(model)
        try:
            model.set_attn_implementation("eager")  # the models' own reference; sdpa refuses a softcap
            alone = [_hidden(model, assemble([document]), with_lengths=False) for document in documents]
            with attention.watched() as windows:
                model.set_attn_implementation(attention.NAME)
                together = _hidden(model, assemble(documents), with_lengths=True)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            raise LeakError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error
        difference = _relative_difference(torch.cat(alone, 1), together)
        if not difference <= _TOLERANCE.get(together.dtype, 5e-2):
            raise LeakError(f"a document's hidden states differ by {difference:.1e} from those it has alone.")
        _check_windows(model.config, windows)
    finally:
        model.train(training)


def _documents(model: Any) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    ids = np.random.default_rng(0).integers(0, model.get_input_embeddings().weight.shape[0], sum(_LENGTHS))
    parts = np.split(ids, np.cumsum(_LENGTHS)[:-1])
    return [(part, np.ones(len(part), bool)) for part in parts]


def _hidden(model: Any, batch: Batch, *, with_lengths: bool) -> torch.Tensor:
    inputs = batch.to(model.device).model_inputs
    if not with_lengths:
        del inputs["document_lengths"]
    hidden: torch.Tensor = model.base_model(**inputs).last_hidden_state
    return hidden


def _relative_difference(reference: torch.Tensor, other: torch.Tensor) -> float:
    reference, other = reference.double(), other.double()
    return float((reference - other).norm() / reference.norm())


def _check_windows(config: Any, seen: set[int | None]) -> None:
    """The probe's documents are shorter than real windows, so check that layers hand theirs to the attention."""
    if getattr(config, "attention_chunk_size", None):
        raise LeakError("its attention works in chunks, which document attention does not.")
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and window not in seen:
        raise LeakError(f"its sliding window of {window} tokens does not reach the attention function.")


@torch.no_grad()
def _has_plain_head(module: HeadLoss[Any], batch: Any) -> bool:
    """Whether the model's own logits are what `PlainHead` makes of its hidden states.

    Asked of larger hidden states too: what caps logits does next to nothing to the small ones of an untrained head.
    """
    model: Any = unwrapped(module.model)
    layer, batch = model.get_output_embeddings(), batch.to(model.device)
    if type(layer) is not torch.nn.Linear:
        return False
    try:
        hidden = module.hidden_states(batch)
        for size in (1, _LARGER):
            with before(layer, lambda _layer, given, size=size: (given[0] * size,)):
                own = module.own_logits(batch)
            plain = module.head().logits(hidden * size)
            if own.shape != plain.shape or not (
                _relative_difference(own, plain) <= _TOLERANCE.get(layer.weight.dtype, 5e-2)
            ):
                return False
    except (IndexError, RuntimeError):  # the head is not called, or with something else than a state a token
        return False
    return True
