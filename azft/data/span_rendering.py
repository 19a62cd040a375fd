"""Extractive question answering: a question, a context, and where in the context the answer stands.

A context that is longer than a sequence becomes several windows that overlap; each is a document with the whole
question. Its targets are the first and the last token of the answer, or (0, 0) where the answer is not wholly inside,
as in Devlin et al. 2019 (arXiv:1810.04805, section 4.2) and transformers' examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from azft.data.dataset import Source
from azft.data.documents import Counts, LongRows, Piece
from azft.data.encoded import Encoded
from azft.data.reading import Read, ReadingRenderer
from azft.data.rendering import Rendered, RenderedText, Row, Span
from azft.data.template_probe import RefusalError
from azft.data.tokenizer import ModelTokenizer

STRIDE = 128
"""Tokens that neighbouring windows share (BERT's doc_stride); at most half of what a window has room for."""
LEAST_ROOM = 8
"""Tokens of context that must fit beside the question."""
NO_ANSWER = -1, -1


@dataclass(frozen=True, slots=True)
class SpanText(RenderedText):
    """The question, the context and the answer's place in it, [start, end) in characters; `NO_ANSWER` without one."""

    question: str = ""
    context: str = ""
    answer: tuple[int, int] = NO_ANSWER


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRead(Read):
    """A window is never longer than `window` tokens."""

    context: str
    answer: tuple[int, int]
    window: int | None

    @property
    def longest(self) -> int:
        return len(self.token_ids) if self.window is None else min(self.window, len(self.token_ids))


class SpanRenderer(ReadingRenderer):
    """Rows of `question`, `context` and `answers`."""

    objective = "span"
    refuses_by_shape = False
    target_width = 2

    def __init__(self, tokenizer: ModelTokenizer, max_length: int | None) -> None:
        super().__init__(tokenizer)
        self.max_length = max_length

    def text(self, row: Row) -> SpanText:
        if "context" not in row:
            raise RefusalError(
                "data-no-context",
                "The row has no context, and an encoder marks the answer in one.",
                fix="Add the column `context`, or take a model that writes: azft models list.",
            )
        question, context = row["question"], row["context"]
        self.refuse_what_is_no_text(question + context)
        start, end = place_of(row["answers"], context)
        before = question + "\n"
        spans = () if start < 0 else (Span(len(before) + start, len(before) + end, len(before) + end),)
        references = tuple(text for text, _ in row["answers"]) or ("",)
        return SpanText(before + context, spans, references, question=question, context=context, answer=(start, end))

    def inputs(self, text: RenderedText) -> tuple[str, str]:
        assert isinstance(text, SpanText)
        return text.question, text.context

    def count_tokens(self, rows: Sequence[Row]) -> list[int]:
        """Those of the longest window of each row."""
        counts = super().count_tokens(rows)
        return counts if self.max_length is None else [min(count, self.max_length) for count in counts]

    def tokens(self, rendered: RenderedText, encoding: Any) -> SpanRead:
        assert isinstance(rendered, SpanText)
        encoded = Encoded.of(encoding)
        first, last = tokens_of(rendered.answer, encoded)
        return SpanRead(
            rendered.text,
            rendered.spans,
            encoded.ids.tolist(),
            ((first, last + 1),),
            references=rendered.references,
            encoded=encoded,
            context=rendered.context,
            answer=rendered.answer,
            window=self.max_length,
        )

    def documents(self, rendered: Rendered, max_length: int, long_rows: LongRows, counts: Counts) -> Iterator[Piece]:
        """A document for each window; none where the question leaves no room. data.long_rows has no say."""
        del long_rows
        assert isinstance(rendered, SpanRead)
        encoded, row = rendered.encoded, counts.rows
        counts.rows += 1
        room = encoded.room(max_length)
        if len(encoded) > max_length and room < LEAST_ROOM:
            counts.long_rows += 1
            counts.dropped_long += 1
            return
        context = rendered.context
        for places in encoded.places(max_length, stride=min(STRIDE, room // 2)):
            window = encoded.at(places)
            mask = np.zeros(len(window), dtype=np.bool_)
            mask[0] = True
            targets = np.array([tokens_of(rendered.answer, window)], dtype=np.int32)
            second = int(np.argmax(window.text_of == 1))
            offsets = np.where(window.text_of[second:, None] == 1, window.offsets[second:], 0).tolist()
            counts.documents += 1
            yield Piece(window.ids, mask, targets, rendered.references, second, Source(row, context, offsets))
            context = ""


def place_of(answers: Sequence[Sequence[Any]], context: str) -> tuple[int, int]:
    """[start, end) of the first answer in the context, where its start says, else the nearest place that has its text.

    `NO_ANSWER` where there is no answer. Raises `RefusalError` where the context doesn't have it.
    """
    if not answers:
        return NO_ANSWER
    text, start = answers[0]
    if start is not None and start >= 0 and context.startswith(text, start):
        return start, start + len(text)
    places = []
    place = context.find(text)
    while place >= 0:
        places.append(place)
        place = context.find(text, place + 1)
    if not places:
        raise RefusalError(
            "data-answer-not-in-context",
            "The answer does not stand in the context, where an encoder could mark it.",
            fix="Write it as the context does, or take a model that writes the answer: azft models list.",
        )
    nearest = min(places, key=lambda place: abs(place - (start or 0)))
    return nearest, nearest + len(text)


def tokens_of(answer: tuple[int, int], encoded: Encoded) -> tuple[int, int]:
    """First and last token that hold the answer's characters; (0, 0) where the tokens don't reach over all of them."""
    start, end = answer
    inside = np.flatnonzero((encoded.text_of == 1) & (encoded.offsets[:, 1] > encoded.offsets[:, 0]))
    if start < 0 or len(inside) == 0:
        return 0, 0
    begins, ends = encoded.offsets[inside, 0], encoded.offsets[inside, 1]
    touched = inside[(ends > start) & (begins < end)]
    if len(touched) == 0 or int(begins[0]) > start or int(ends[-1]) < end:
        return 0, 0
    return int(touched[0]), int(touched[-1])
