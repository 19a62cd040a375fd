"""Extractive question answering: the loss of an answer's first and last token, and answers out of windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from azft.training.loss import Score, at_least_fp32
from azft.training.padded import PaddedBatch, Reader
from azft.training.text_metrics import exact_match, f1

if TYPE_CHECKING:
    from torch import Tensor

    from azft.training.objectives import Totals

BEST = 20
"""Likeliest first and last tokens of a window that are tried with each other, as in transformers' examples."""
LONGEST_ANSWER = 30
"""Tokens."""


class SpanLoss(Reader):
    """The mean of two cross-entropies over a window's tokens, of the answer's first and last; summed over windows."""

    def forward(self, batch: PaddedBatch) -> Tensor:
        """Summed loss, shape ()."""
        return self._loss(self._logits(batch), batch)

    @torch.no_grad()
    def score(self, batch: PaddedBatch) -> Score:
        """Summed loss, and windows of which both tokens are told right.

        `answers` are the candidates (documents, 2, candidates, 2): for first and last token, each with its logit; the
        first of them is token 0, which says that there is no answer.
        """
        logits = self._logits(batch)
        correct = (logits.argmax(-1) == batch.labels).all(-1).sum()
        inside = batch.in_second
        assert inside is not None
        in_context = logits.masked_fill(~inside[:, None], float("-inf"))
        best = in_context.topk(min(BEST, logits.shape[-1]), dim=-1)
        places = torch.cat([torch.zeros_like(best.indices[..., :1]), best.indices], -1)
        values = torch.cat([logits[..., :1], best.values], -1)
        return Score(self._loss(logits, batch).double(), correct, torch.stack([places.to(values.dtype), values], -1))

    def _logits(self, batch: PaddedBatch) -> Tensor:
        """(documents, 2, tokens), minus infinity where there is filler."""
        output = self.output(batch)
        logits = at_least_fp32(torch.stack([output.start_logits, output.end_logits], 1))
        return logits.masked_fill(batch.attention_mask[:, None] == 0, float("-inf"))

    def _loss(self, logits: Tensor, batch: PaddedBatch) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="sum") / 2


def span_figures(totals: Totals) -> dict[str, float]:
    """Mean loss per window, and SQuAD's exact match and F1 over rows."""
    said, right = answers_by_row(totals), references_by_row(totals)
    order = sorted(right)
    predictions, references = [said[row] for row in order], [right[row] for row in order]
    return {
        "loss": totals.mean_loss,
        "exact_match": exact_match(predictions, references),
        "f1": f1(predictions, references),
    }


def references_by_row(totals: Totals) -> dict[int, list[str]]:
    """Of each row, the texts that are right; [""] where the context has no answer."""
    return {source.row: totals.rows.references_of(n) for n, source in enumerate(totals.rows.all_sources())}


def answers_by_row(totals: Totals) -> dict[int, str]:
    """Of each row, the text that the model marks: the best in all its windows.

    It is "" where that is likelier, if the data have such rows at all: the least likely "no answer" of the windows
    counts, because an answer in one of them is enough.
    """
    sources = totals.rows.all_sources()
    texts = {source.row: source.text for source in sources if source.text}
    may_be_none = any(totals.rows.references_of(number) == [""] for number in range(len(sources)))
    best: dict[int, tuple[float, str]] = {}
    none: dict[int, float] = {}
    for sequences, candidates in zip(totals.sequences, totals.answers, strict=True):
        for number, window in zip(sequences, candidates, strict=True):
            source, second = sources[number], int(totals.rows.second_starts[number])
            first, last = window.tolist()
            nothing = first[0][1] + last[0][1]
            none[source.row] = min(none.get(source.row, nothing), nothing)
            for start, begin in first[1:]:
                for end, finish in last[1:]:
                    if not 0 <= end - start < LONGEST_ANSWER or begin + finish <= best.get(source.row, (-1e30, ""))[0]:
                        continue
                    characters = [source.offsets[int(place) - second] for place in (start, end)]
                    if all(right > left for left, right in characters):
                        text = texts[source.row][characters[0][0] : characters[1][1]]
                        best[source.row] = begin + finish, text
    answers: dict[int, str] = {}
    for row, nothing in none.items():
        value, text = best.get(row, (-1e30, ""))
        answers[row] = "" if may_be_none and nothing > value else text
    return answers
