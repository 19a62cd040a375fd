"""The table of objectives: which head a model has, how documents make a batch, and what its loss is.

A dataset names its objective (`azft.data.dataset`). Tokens and loss mask are the same for all; what is to be told at a
token in the loss differs: the token itself, a class, a position. The loop knows only the few things below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from azft.training.batches import Moment, assemble, budgeted, share
from azft.training.classes import ClassesLoss, ClassLoss, TagLoss, class_figures, classes_figures, tag_figures
from azft.training.noise import NoiseLoss, noise_figures, paint_held_out, picture_batch
from azft.training.padded import assemble_padded
from azft.training.painter import HEAD
from azft.training.preference import PreferenceLoss, ask_reference, pair_batch, preference_figures
from azft.training.probe import sequence_to_sequence_loss, token_loss
from azft.training.sequence_to_sequence import assemble_pairs
from azft.training.spans import SpanLoss, span_figures
from azft.training.told import class_samples, classes_samples, span_samples, tag_samples

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from azft.data.dataset import Document, TokenDataset
    from azft.training.told import Decode, Sample


class AnyBatch(Protocol):
    """Documents as tensors, and what is to be told about them."""

    labels: torch.Tensor
    """Its length is the number of things to be told."""

    @property
    def tokens(self) -> int:
        """Tokens in the batch, without padding."""

    def to(self, device: torch.device) -> Any:
        """The same batch on another device."""


Figures = dict[str, float]


@dataclass
class Totals:
    """What a model made of held-out rows: sums over all that was to be told, and each of it where a module says it."""

    rows: TokenDataset
    loss: float = 0.0
    correct: int = 0
    labels: int = 0
    answers: list[Any] = field(default_factory=list)
    """Tensors of `Score.answers`, a batch each."""
    told: list[Any] = field(default_factory=list)
    """Tensors of the batches' labels."""
    sequences: list[tuple[int, ...]] = field(default_factory=list)
    """Numbers of the batches' sequences, where those batches know them."""

    @property
    def names(self) -> tuple[str, ...]:
        """The data set's labels."""
        return self.rows.labels

    @property
    def said(self) -> torch.Tensor:
        """All answers, (labels, ...)."""
        import torch

        return torch.cat(self.answers)

    @property
    def right(self) -> torch.Tensor:
        """What they should be, in the same order: (labels, width)."""
        import torch

        return torch.cat(self.told)

    @property
    def mean_loss(self) -> float:
        """Loss per thing to be told."""
        return self.loss / self.labels


def token_figures(totals: Totals) -> Figures:
    """Loss (mean per label token), perplexity, and share of label tokens that are the model's first choice."""
    loss = totals.mean_loss
    perplexity = math.exp(min(loss, 700.0))
    return {"loss": loss, "perplexity": perplexity, "token_accuracy": totals.correct / totals.labels}


@dataclass(frozen=True)
class Objective:
    """One row. A module of `make` takes a batch and gives its summed loss; its `score` gives a `loss.Score`."""

    head: str
    """The transformers auto class that loads a model with the head for it; diffusers' class of one that paints."""
    make: Callable[[Any, bool], Any]
    """(model, whether every batch holds one document) -> module with `forward(batch)` and `score(batch)`."""
    assemble: Callable[[Sequence[Document], Sequence[int]], Any]
    """(documents, numbers of their sequences) -> batch."""
    figures: Callable[[Totals], Figures]
    """What evaluation reports."""
    batch: Callable[[TokenDataset, Sequence[int], Moment], Any] | None = None
    """(dataset, numbers of sequences, moment) -> batch, where documents alone do not make one."""
    reference: Callable[..., Any] | None = None
    """What a loss is measured against: asked of the model before anything moves, and given to the module's
    `against`; see `preference.ask_reference`."""
    documents_per_row: int = 1
    """A pair is two."""
    samples: Callable[[Totals, Decode, int], list[Sample]] | None = None
    """What was told about the first so many rows, as text; None for models that write."""
    paints: Callable[..., list[tuple[list[int], Any]]] | None = None
    """The first so many held-out captions with a model's picture of each, for models that paint; see
    `noise.paint_held_out`."""
    problem: str | None = None
    """What transformers calls the problem in the config of such a model: how a pipeline turns logits into scores."""
    writes: bool = False
    """Whether such a model answers a prompt with text."""
    pads: bool = False
    """Whether a batch's documents are filled up to the longest, so that they should be about equally long."""

    def loading(self, labels: Sequence[str]) -> dict[str, Any]:
        """How `models.load_model` and `empty_model` make a model with the head for it."""
        return {"head": self.head, "labels": labels, "problem": self.problem}

    def batch_of(self, dataset: TokenDataset, sequences: Sequence[int], moment: Moment = ()) -> Any:
        """The batch made of some sequences of a dataset; `moment` says when it is trained on."""
        if self.batch is not None:
            return self.batch(dataset, sequences, moment)
        return self.assemble([document for s in sequences for document in dataset.sequence(s)], sequences)

    def micro_batches(
        self,
        dataset: TokenDataset,
        sequences: Sequence[int] | NDArray[Any],
        *,
        micro: int,
        rank: int,
        ranks: int,
    ) -> list[list[int]]:
        """The parts of a global batch that one rank computes, as many for every rank; see `batches.share`."""
        if not self.pads:
            return share(sequences, micro=micro, rank=rank, ranks=ranks)
        return budgeted(sequences, dataset.sequence_lengths, tokens=micro * dataset.max_length, rank=rank, ranks=ranks)


def _reads(
    head: str,
    loss: Callable[[Any], Any],
    figures: Callable[[Totals], Figures],
    samples: Callable[[Totals, Decode, int], list[Sample]],
    *,
    problem: str | None = None,
) -> Objective:
    """The row of a model that tells something about a text, and writes none."""
    return Objective(
        head=f"AutoModelFor{head}",
        problem=problem,
        make=lambda model, _one_document: loss(model),
        assemble=assemble_padded,
        figures=figures,
        samples=samples,
        pads=True,
    )


OBJECTIVES: dict[str, Objective] = {
    "next-token": Objective(
        head="AutoModelForCausalLM",
        make=lambda model, one_document: token_loss(model, one_document=one_document),
        assemble=assemble,
        figures=token_figures,
        writes=True,
    ),
    "sequence-to-sequence": Objective(
        head="AutoModelForSeq2SeqLM",
        make=lambda model, _one_document: sequence_to_sequence_loss(model),
        assemble=assemble_pairs,
        figures=token_figures,
        writes=True,
        pads=True,
    ),
    "class": _reads(
        "SequenceClassification", ClassLoss, class_figures, class_samples, problem="single_label_classification"
    ),
    "classes": _reads(
        "SequenceClassification", ClassesLoss, classes_figures, classes_samples, problem="multi_label_classification"
    ),
    "tag": _reads("TokenClassification", TagLoss, tag_figures, tag_samples),
    "span": _reads("QuestionAnswering", SpanLoss, span_figures, span_samples),
    "preference": Objective(
        head="AutoModelForCausalLM",
        make=lambda model, _one_document: PreferenceLoss(model),
        assemble=assemble,
        batch=pair_batch,
        reference=ask_reference,
        figures=preference_figures,
        writes=True,
        documents_per_row=2,
    ),
    "noise": Objective(
        head=HEAD,
        make=lambda model, _one_document: NoiseLoss(model),
        assemble=assemble,
        batch=picture_batch,
        figures=noise_figures,
        paints=paint_held_out,
    ),
}
