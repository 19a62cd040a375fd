"""Batches for models that read both ways: documents side by side, filled up to the longest, the filler masked.

A model that reads is not packed: encoders have no attention that keeps documents apart. Documents of about equal length
share a batch (`batches.budgeted`), so that little is filler.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from azft.training.batches import Movable, side_by_side
from azft.training.models import unwrapped

if TYPE_CHECKING:
    from torch import Tensor

    from azft.data.dataset import Document


@dataclass(frozen=True)
class PaddedBatch(Movable):
    """Documents, and what is to be told about them."""

    input_ids: Tensor
    """(documents, longest) int64; 0 where there is filler."""
    attention_mask: Tensor
    """(documents, longest) int64, 0 where there is filler."""
    places: Tensor
    """(labels, 2) int64: document and token at which each label is told."""
    labels: Tensor
    """(labels, width) int64."""
    second_starts: Tensor | None
    """(documents,) int64: where a document's second text starts; None where documents are one text."""
    tokens: int
    """Tokens in the batch, without filler."""
    sequences: tuple[int, ...] = ()
    """Which sequences of the dataset are inside."""

    @property
    def model_inputs(self) -> dict[str, Any]:
        """What every transformers model takes; `Reader.inputs` knows what a certain one wants besides."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}

    @property
    def in_second(self) -> Tensor | None:
        """True from where a document's second text starts; (documents, longest)."""
        if self.second_starts is None:
            return None
        position = torch.arange(self.input_ids.shape[1], device=self.input_ids.device)
        return position >= self.second_starts[:, None]


def assemble_padded(documents: Sequence[Document], sequences: Sequence[int] = ()) -> PaddedBatch:
    """Documents with targets, side by side."""
    lengths = [len(document.tokens) for document in documents]
    ids, mask = side_by_side([document.tokens for document in documents])
    told = [np.flatnonzero(document.loss_mask) for document in documents]
    places = np.stack([np.repeat(np.arange(len(documents)), [len(one) for one in told]), np.concatenate(told)], 1)
    targets = np.concatenate([_targets(document) for document in documents]).astype(np.int64)
    seconds = [document.second for document in documents]
    starts = [length if second is None else second for length, second in zip(lengths, seconds, strict=True)]
    pairs = any(second is not None for second in seconds)
    return PaddedBatch(
        input_ids=ids,
        attention_mask=mask,
        places=torch.from_numpy(places),
        labels=torch.from_numpy(targets),
        second_starts=torch.tensor(starts) if pairs else None,
        tokens=sum(lengths),
        sequences=tuple(sequences),
    )


def _targets(document: Document) -> np.ndarray[Any, Any]:
    assert document.targets is not None
    return document.targets


class Reader(nn.Module):
    """A model with a classification's or question answering's head; its subclasses say what the loss is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        config: Any = unwrapped(model).config
        config.use_cache = False  # nothing is written, and a decoder would keep keys and values for it
        self.knows_types = (getattr(config, "type_vocab_size", 0) or 0) > 1
        filler = getattr(config, "pad_token_id", None)
        self.filler = 0 if filler is None else int(filler)

    def inputs(self, batch: PaddedBatch) -> dict[str, Any]:
        """The model's arguments: its own filler, and of which text a token is where it wants to know (BERT)."""
        inputs = batch.model_inputs
        inputs["input_ids"] = batch.input_ids.masked_fill(batch.attention_mask == 0, self.filler)
        if self.knows_types:
            second = batch.in_second
            inputs["token_type_ids"] = torch.zeros_like(batch.input_ids) if second is None else second.long()
        return inputs

    def output(self, batch: PaddedBatch) -> Any:
        """What the transformers model gives."""
        return unwrapped(self.model)(**self.inputs(batch))
