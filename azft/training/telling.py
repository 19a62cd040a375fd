"""What a model that reads tells about one row: its label or labels, a tag for each word, or a place in the context.

The row is rendered, cut and put into a batch exactly as in training and evaluation, so the answer is the one that
evaluation would count. Of a context that is longer than a sequence every window is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import torch

from azft.asking import (
    Answer,
    checked_row,
    context_of,
    label_answer,
    labels_answer,
    reads_of,
    row_of,
    span_answer,
    tags_answer,
)
from azft.data.dataset import TokenDataset, token_dtype
from azft.data.documents import Counts, LongRows, Piece
from azft.data.encoded import Encoded
from azft.data.label_counts import OUTSIDE
from azft.data.model_folder import model_kind
from azft.data.renderers import Rendering, renderer_for
from azft.data.tag_rendering import first_tokens
from azft.data.tokenizer import context_length, load_tokenizer
from azft.errors import UsageError
from azft.training import adapters
from azft.training.devices import Arithmetic, arithmetic, pick_device
from azft.training.loss import at_least_fp32
from azft.training.models import load_model, unwrapped
from azft.training.objectives import OBJECTIVES, Totals
from azft.training.spans import answers_by_row

if TYPE_CHECKING:
    from azft.data.tokenizer import ModelTokenizer
    from azft.training.padded import Reader

TASKS_OF = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
}
"""The transformers auto class of a model that reads -> the task that its head is for."""
_SEVERAL = "multi_label_classification"
_LONGEST = 512
"""Tokens of a sequence where the model sets no limit."""


@dataclass(frozen=True)
class ReaderModel:
    """A model that reads, its tokenizer, and what it can tell."""

    model: Any
    tokenizer: ModelTokenizer
    task: str
    labels: tuple[str, ...]
    several: bool
    """Whether any number of labels may be right at once."""
    numbers: Arithmetic
    longest: int
    """Most tokens of a sequence."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of a row that it is asked with."""
        return reads_of(self.task)

    def reply(self, messages: Sequence[Mapping[str, Any]], **_settings: Any) -> Iterator[str]:
        """What the model tells about what was said last, in one piece; what was said before is nothing to it."""
        yield self.ask(row_of(str(messages[-1]["content"]), self.reads)).text

    def ask(self, row: Mapping[str, Any], **_settings: Any) -> Answer:
        """What the model tells about a row; how an answer would be written is nothing to it.

        Raises `UsageError` for a row that it is not asked with, or nothing of which it can read.
        """
        given = checked_row(row, self.reads)
        if self.task == "question-answering":
            context_of(given)
        rows = self._dataset(given)
        objective = OBJECTIVES[rows.objective]
        module = objective.make(self.model, True)
        batch = objective.batch_of(rows, range(len(rows))).to(self.numbers.device)
        with torch.no_grad(), self.numbers.autocast():
            if rows.objective == "span":
                return span_answer(_span(module.score(batch), batch, rows))
            likely = self._probabilities(module, batch)
        if rows.objective == "tag":
            return tags_answer(given["tokens"], self._tags(given["tokens"], likely))
        one = likely[0].tolist()
        if rows.objective == "classes":
            return labels_answer([(name, p) for name, p in zip(self.labels, one, strict=True) if p > 0.5])
        best = int(np.argmax(one))
        return label_answer(self.labels[best], one[best], dict(zip(self.labels, one, strict=True)))

    def _probabilities(self, module: Reader, batch: Any) -> torch.Tensor:
        """(things to be told, labels) on the CPU."""
        logits = at_least_fp32(module.output(batch).logits)
        if self.task == "token-classification":
            logits = logits[batch.places[:, 0], batch.places[:, 1]]
        return (logits.sigmoid() if self.several else logits.softmax(-1)).cpu()

    def _dataset(self, row: Mapping[str, Any]) -> TokenDataset:
        """The row as the one of a dataset. What is right is not known: any label that there is stands in its place."""
        rendering = Rendering(labels=self.labels, max_length=self.longest, several=self.several)
        renderer = renderer_for(self.task, self.tokenizer, rendering)
        some = self.labels[0] if self.labels else ""
        unknown: dict[str, dict[str, Any]] = {
            "text-classification": {"labels": []} if self.several else {"label": some},
            "token-classification": {"tags": [some] * len(row.get("tokens", ()))},
            "question-answering": {"answers": []},
        }
        rendered = renderer.render({**row, **unknown[self.task]})
        long_rows: LongRows = "split" if self.task == "token-classification" else "truncate"
        pieces = list(renderer.documents(rendered, self.longest, long_rows, Counts()))
        if not pieces:
            raise UsageError(
                f"Nothing of the row fits into the {self.longest} tokens that the model reads at a time.",
                fix="Ask a shorter question."
                if self.task == "question-answering"
                else "Give a text with a word in it.",
            )
        return _in_memory(pieces, renderer.objective, self.labels, self.longest, self.tokenizer.vocab_size)

    def _tags(self, words: Sequence[str], likely: torch.Tensor) -> list[str]:
        """A tag for each word; one in which no token begins (white space alone) is outside of everything."""
        encoded = Encoded.of(self.tokenizer.backend.encode(" ".join(words), add_special_tokens=True))
        said = iter(likely.argmax(-1).tolist())
        return [OUTSIDE if place is None else self.labels[next(said)] for place in first_tokens(words, encoded)]


def load_reader(folder: Path, base: Path, auto_class: str) -> ReaderModel:
    """Load a packaged model that reads; `base` is where its whole weights are, `auto_class` gives it its head."""
    device = pick_device()
    numbers = arithmetic("auto", device)
    model = load_model(base, head=auto_class, dtype=torch.float32).to(device)
    if base is not folder:
        model = adapters.attach(model, folder / "adapter").to(device)
    config = unwrapped(model).config
    task = TASKS_OF[auto_class]
    named = config.id2label if task != "question-answering" else {}
    return ReaderModel(
        model,
        replace(load_tokenizer(folder), model_kind=model_kind(base)),
        task,
        labels=tuple(str(named[number]) for number in sorted(named)),
        several=task == "text-classification" and config.problem_type == _SEVERAL,
        numbers=numbers,
        longest=context_length(base) or _LONGEST,
    )


def _span(score: Any, batch: Any, rows: TokenDataset) -> str:
    """The text of the likeliest place in any window: as in transformers' pipeline, there always is one."""
    totals = Totals(rows)
    totals.answers.append(score.answers.cpu())
    totals.told.append(batch.labels.cpu())
    totals.sequences.append(batch.sequences)
    return answers_by_row(totals)[0]


def _in_memory(
    pieces: Sequence[Piece], objective: str, labels: tuple[str, ...], max_length: int, vocab_size: int
) -> TokenDataset:
    """Documents as an open split, each a sequence, without a folder."""
    targets = [piece.targets for piece in pieces if piece.targets is not None]
    seconds = [len(piece.token_ids) if piece.second is None else piece.second for piece in pieces]
    sources = b"".join(orjson.dumps(tuple(piece.source)) + b"\n" for piece in pieces if piece.source is not None)
    numbers = np.arange(len(pieces) + 1)
    return TokenDataset(
        split="asked",
        tokens=np.concatenate([piece.token_ids for piece in pieces]).astype(token_dtype(vocab_size)),
        loss_mask=np.concatenate([piece.loss_mask for piece in pieces]).astype(np.uint8),
        document_offsets=np.cumsum([0, *(len(piece.token_ids) for piece in pieces)]),
        sequence_offsets=numbers,
        sequence_documents=numbers[:-1],
        label_counts=np.array([int(piece.loss_mask.sum()) for piece in pieces]),
        references=np.empty(0, np.uint8),
        second_starts=np.array(seconds if any(piece.second is not None for piece in pieces) else [], np.int64),
        sources=np.frombuffer(sources, np.uint8),
        max_length=max_length,
        vocab_size=vocab_size,
        fingerprint="",
        objective=objective,
        labels=labels,
        targets=np.concatenate(targets),
    )
