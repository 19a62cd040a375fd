"""Encoder-decoder models: the encoder reads the source, the decoder is taught to write the target after it.

A batch is padded, each side to its longest: the encoder's mask leaves its filler out, and the decoder, which looks
back only, has its own at the end. What the decoder is given is the target moved by one, after the model's start token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from azft.errors import UsageError
from azft.training.batches import Movable, side_by_side
from azft.training.loss import HeadLoss, at_least_fp32
from azft.training.models import decoder_start, unwrapped

if TYPE_CHECKING:
    from torch import Tensor

    from azft.data.dataset import Document


@dataclass(frozen=True)
class SourceTargetBatch(Movable):
    """Documents of a source and a target each; `labels` are all targets' tokens, document after document."""

    sources: Tensor
    """(documents, longest source) int64, filled up with 0."""
    source_mask: Tensor
    """(documents, longest source) int64, 1 where a source has a token."""
    targets: Tensor
    """(documents, longest target) int64, filled up with 0."""
    rows: Tensor
    """(labels,) int64: where in the flattened targets each label is."""
    labels: Tensor
    """(labels,) int64."""
    tokens: int
    """Tokens without the filler."""

    @property
    def model_inputs(self) -> dict[str, Any]:
        """Arguments of a transformers model, but that the decoder is given the targets as they are, not moved."""
        return {
            "input_ids": self.sources,
            "attention_mask": self.source_mask,
            "decoder_input_ids": self.targets,
            "use_cache": False,
        }


def assemble_pairs(documents: Sequence[Document], sequences: Sequence[int] = ()) -> SourceTargetBatch:
    """Documents as a batch; in each, the target begins where the loss does and goes on to the end."""
    del sequences
    borders = [int(np.flatnonzero(document.loss_mask)[0]) for document in documents]
    sources = [document.tokens[:border] for document, border in zip(documents, borders, strict=True)]
    targets = [document.tokens[border:] for document, border in zip(documents, borders, strict=True)]
    longest = max((len(target) for target in targets), default=0)
    rows = [np.arange(len(target)) + number * longest for number, target in enumerate(targets)]
    padded_targets, _ = side_by_side(targets)
    padded_sources, mask = side_by_side(sources)
    at = torch.from_numpy(np.concatenate([np.empty(0, np.int64), *rows]))
    return SourceTargetBatch(
        sources=padded_sources,
        source_mask=mask,
        targets=padded_targets,
        rows=at,
        labels=padded_targets.reshape(-1)[at],
        tokens=sum(len(document.tokens) for document in documents),
    )


class SequenceToSequenceLoss(HeadLoss[SourceTargetBatch]):
    """An encoder-decoder whose forward is the summed cross-entropy of a batch's targets.

    `model` is the transformers model, or peft's wrapper around it; `plain_head` as in `HeadLoss`. Raises `UsageError`
    for a model that does not say with which token its decoder begins.
    """

    def __init__(self, model: nn.Module, *, plain_head: bool) -> None:
        super().__init__(model, plain_head=plain_head)
        start = decoder_start(model)
        if start is None:
            raise UsageError(
                f"{type(unwrapped(model)).__name__} does not say with which token its decoder begins.",
                fix="Set decoder_start_token_id in its config.json.",
            )
        self.start = start

    def hidden_states(self, batch: SourceTargetBatch) -> Tensor:
        """What the head is given at each label, (labels, hidden), whatever the model made of it before: T5 scales it.

        Not every such model has its decoder where it could be asked for alone, so the model runs as a whole, and its
        head is given no rows.
        """
        given: list[Tensor] = []

        def take(_head: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
            given.append(arguments[0])
            return (arguments[0][:0],)

        with before(unwrapped(self.model).get_output_embeddings(), take):
            self.output(batch)
        return given[0].flatten(0, 1)[batch.rows]

    def own_logits(self, batch: SourceTargetBatch) -> Tensor:
        """The model's own logits at each label, (labels, vocabulary), in at least fp32."""
        return at_least_fp32(self.output(batch).logits.flatten(0, 1)[batch.rows])

    def output(self, batch: SourceTargetBatch) -> Any:
        """What the transformers model gives, its decoder being given the targets moved by one."""
        given = torch.cat([torch.full_like(batch.targets[:, :1], self.start), batch.targets[:, :-1]], dim=1)
        return unwrapped(self.model)(**{**batch.model_inputs, "decoder_input_ids": given})


@contextmanager
def before(layer: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Let `hook` see, and change, what a layer is called with."""
    handle = layer.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
