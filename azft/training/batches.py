"""Which sequences form which batch on which rank, and how a batch becomes tensors. There is no padding anywhere.

A batch is one row of tokens, (1, tokens): its documents one after another, positions starting at 0 in each. So a packed
sequence, several of them, and unpacked documents all have one shape, and nothing is computed for filler.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from numpy.typing import NDArray
    from torch import Tensor

Moment = tuple[int, ...]
"""When a batch is trained on: the run's seed and the optimizer step, from 0. () when nothing is trained.

With a sequence's number it seeds what a batch draws at random, so that neither ranks, nor micro-batches, nor a restart
change it."""


@dataclass(frozen=True)
class Movable:
    """A batch whose fields can be put on a device: tensors, and batches within."""

    def to(self, device: torch.device) -> Self:
        """The same batch on another device. A GPU copies from pinned memory by itself, and nobody waits for it."""
        if device.type == "cpu":
            return self
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: _moved(value, device) for name, value in named.items()})


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Movable):
        return value.to(device)
    if not isinstance(value, torch.Tensor):
        return value
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)


@dataclass(frozen=True)
class Batch(Movable):
    """Documents in a row, and which of their tokens count.

    `rows[i]` is the position whose hidden state predicts `labels[i]`, the token after it in the same document.
    """

    input_ids: Tensor
    """(1, tokens) int64."""
    position_ids: Tensor
    """(1, tokens) int64, from 0 in each document."""
    rows: Tensor
    """(labels,) int64."""
    labels: Tensor
    """(labels,) int64."""
    document_lengths: tuple[int, ...]
    sequences: tuple[int, ...] = ()
    """Which sequences of the dataset are inside, for messages."""

    @property
    def tokens(self) -> int:
        """Tokens in the batch."""
        return self.input_ids.shape[1]

    @property
    def model_inputs(self) -> dict[str, Any]:
        """Arguments of a transformers model. No mask and no cache: either makes neighbours visible."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "attention_mask": None,
            "use_cache": False,
            "document_lengths": self.document_lengths,
        }


def assemble(documents: Sequence[Sequence[Any]], sequences: Sequence[int] = ()) -> Batch:
    """Concatenate documents, given as (tokens, loss_mask, ...) arrays of shape (tokens,)."""
    lengths = [len(document[0]) for document in documents]
    ids = np.concatenate([document[0] for document in documents]).astype(np.int64)
    labelled = np.concatenate([document[1] for document in documents]).astype(bool)
    starts = np.cumsum([0, *lengths[:-1]])
    labelled[starts] = False  # the first token of a document follows nothing
    targets = np.flatnonzero(labelled)
    positions = np.arange(len(ids)) - np.repeat(starts, lengths)
    return Batch(
        input_ids=torch.from_numpy(ids)[None],
        position_ids=torch.from_numpy(positions)[None],
        rows=torch.from_numpy(targets - 1),
        labels=torch.from_numpy(ids[targets]),
        document_lengths=tuple(lengths),
        sequences=tuple(sequences),
    )


@lru_cache(maxsize=2)  # a step asks for it and so does whoever works ahead; of a million sequences it takes 20 ms
def epoch_order(sequences: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order in which an epoch (from 0) visits the sequences, read-only; the same on every rank. (sequences,)."""
    order = np.random.default_rng([seed, epoch]).permutation(sequences)
    order.flags.writeable = False
    return order


def global_batch(sequences: int, *, size: int, step: int, seed: int) -> NDArray[np.int64]:
    """The sequences of optimizer step `step` (from 0).

    An epoch's last batch may be smaller: every sequence is seen once an epoch, none is dropped or repeated, and no
    batch mixes two epochs. Its loss is normalised by its own label tokens, like that of every batch.
    """
    steps_per_epoch = -(-sequences // size)
    epoch, position = divmod(step, steps_per_epoch)
    return epoch_order(sequences, seed=seed, epoch=epoch)[position * size : (position + 1) * size]


def share(sequences: Sequence[int] | NDArray[np.int64], *, micro: int, rank: int, ranks: int) -> list[list[int]]:
    """The micro-batches of `micro` sequences that one rank computes; empty ones make every rank's list equally long.

    The batch is cut into micro-batches, which the ranks take in turn. Every rank must take part in every exchange of
    gradients, hence the empty ones.
    """
    cut = [[int(s) for s in sequences[i : i + micro]] for i in range(0, len(sequences), micro)]
    rounds = -(-len(cut) // ranks)
    mine = cut[rank::ranks]
    return mine + [[] for _ in range(rounds - len(mine))]


def budgeted(
    sequences: Sequence[int] | NDArray[np.int64], lengths: NDArray[np.int64], *, tokens: int, rank: int, ranks: int
) -> list[list[int]]:
    """As `share`, for batches that are padded: of about equal lengths, with at most `tokens` tokens, padding included.

    `lengths` (sequences of the dataset,) are in tokens. The longest come first, so that memory that suffices for the
    first micro-batch suffices for all.
    """
    ordered = sorted((int(s) for s in sequences), key=lambda s: -int(lengths[s]))
    cut: list[list[int]] = []
    for sequence in ordered:
        longest = int(lengths[cut[-1][0]]) if cut else 0
        if not cut or (len(cut[-1]) + 1) * longest > tokens:
            cut.append([])
        cut[-1].append(sequence)
    mine = cut[rank::ranks]
    return mine + [[] for _ in range(-(-len(cut) // ranks) - len(mine))]


def side_by_side(
    parts: Sequence[Sequence[int] | NDArray[Any]], *, filler: int = 0, left: bool = False
) -> tuple[Tensor, Tensor]:
    """Token ids of several parts filled up to the longest, on the right or the `left`, and a mask with 1 at each token.

    Both (parts, longest) int64.
    """
    longest = max(map(len, parts), default=0)
    ids = torch.full((len(parts), longest), filler)
    mask = torch.zeros_like(ids)
    for row, part in enumerate(parts):
        start = longest - len(part) if left else 0
        ids[row, start : start + len(part)] = torch.from_numpy(np.asarray(part, dtype=np.int64))
        mask[row, start : start + len(part)] = 1
    return ids, mask
