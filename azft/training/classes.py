"""Losses of classification: one class a document, several, or one a word; and what evaluation reports of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from azft.training.label_metrics import classification_figures, entity_figures, multi_label_figures
from azft.training.loss import Score, at_least_fp32
from azft.training.padded import PaddedBatch, Reader

if TYPE_CHECKING:
    from torch import Tensor

    from azft.training.objectives import Totals


class ClassLoss(Reader):
    """Of each document one class is right: cross-entropy, summed over documents."""

    def forward(self, batch: PaddedBatch) -> Tensor:
        """Summed loss, shape ()."""
        return F.cross_entropy(self.logits(batch), batch.labels[:, 0], reduction="sum")

    @torch.no_grad()
    def score(self, batch: PaddedBatch) -> Score:
        """Summed loss and right answers; `answers` are the likeliest classes, (labels,)."""
        logits, right = self.logits(batch), batch.labels[:, 0]
        loss, answers = F.cross_entropy(logits, right, reduction="sum").double(), logits.argmax(-1)
        return Score(loss, (answers == right).sum(), answers)

    def logits(self, batch: PaddedBatch) -> Tensor:
        """(labels, classes)."""
        return at_least_fp32(self.output(batch).logits)


class TagLoss(ClassLoss):
    """Of each word one tag is right: cross-entropy, summed over words."""

    def logits(self, batch: PaddedBatch) -> Tensor:
        return at_least_fp32(self.output(batch).logits[batch.places[:, 0], batch.places[:, 1]])


class ClassesLoss(Reader):
    """Of each document any number of classes is right: binary cross-entropy, its mean over classes, summed."""

    def forward(self, batch: PaddedBatch) -> Tensor:
        """Summed loss, shape ()."""
        return self._loss(self._logits(batch), batch)

    @torch.no_grad()
    def score(self, batch: PaddedBatch) -> Score:
        """Summed loss and documents of which all is told right; `answers` are (documents, classes) ones and zeros."""
        logits = self._logits(batch)
        answers = (logits > 0).long()
        return Score(self._loss(logits, batch).double(), (answers == batch.labels).all(-1).sum(), answers)

    def _logits(self, batch: PaddedBatch) -> Tensor:
        return at_least_fp32(self.output(batch).logits)

    def _loss(self, logits: Tensor, batch: PaddedBatch) -> Tensor:
        right = batch.labels.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, right, reduction="none").mean(-1).sum()


def class_figures(totals: Totals) -> dict[str, float]:
    """Mean loss per document, accuracy, and the mean of the classes' F1."""
    return {"loss": totals.mean_loss, **classification_figures(totals.right[:, 0].tolist(), totals.said.tolist())}


def classes_figures(totals: Totals) -> dict[str, float]:
    """Mean loss per document, F1 over all decisions and as mean over classes, and documents that are all right."""
    return {"loss": totals.mean_loss, **multi_label_figures(totals.right.numpy(), totals.said.numpy())}


def tag_figures(totals: Totals) -> dict[str, float]:
    """Mean loss per word, the share of right tags, and precision, recall and F1 of whole entities."""
    right, said = tags_by_document(totals)
    accuracy = totals.correct / totals.labels
    return {"loss": totals.mean_loss, "accuracy": accuracy, **entity_figures(list(right.values()), list(said.values()))}


def tags_by_document(totals: Totals) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Of each document the tags that are right, and those that the model says."""
    offsets = totals.rows.target_offsets
    right: dict[int, list[str]] = {}
    said: dict[int, list[str]] = {}
    for sequences, told, answers in zip(totals.sequences, totals.told, totals.answers, strict=True):
        counts = [int(offsets[number + 1] - offsets[number]) for number in sequences]
        for number, theirs, mine in zip(sequences, told[:, 0].split(counts), answers.split(counts), strict=True):
            right[number] = [totals.names[tag] for tag in theirs.tolist()]
            said[number] = [totals.names[tag] for tag in mine.tolist()]
    return right, said
