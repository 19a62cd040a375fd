"""Preference pairs as tokens: the same prompt with the preferred answer and with the other one, a document each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from azft.data.documents import NOTHING_SPARE, Counts, LongRows, Piece, Spare, cut
from azft.data.masking import ChatRenderer
from azft.data.rendering import Rendered, RenderedText, Renderer, Row, Span
from azft.data.tokenizer import ModelTokenizer


@dataclass(frozen=True, slots=True)
class PairText(RenderedText):
    """Both conversations, one after the other; the second begins at character `border`."""

    border: int = 0
    spares: tuple[Spare, Spare] = (NOTHING_SPARE, NOTHING_SPARE)
    """What each conversation's prompt can lose, counted from its own beginning."""

    @property
    def halves(self) -> tuple[RenderedText, RenderedText]:
        """Each conversation alone."""
        first = tuple(span for span in self.spans if span.end <= self.border)
        second = tuple(_moved(span, -self.border) for span in self.spans if span.start >= self.border)
        return (
            RenderedText(self.text[: self.border], first, spare=self.spares[0]),
            RenderedText(self.text[self.border :], second, spare=self.spares[1]),
        )


@dataclass(frozen=True, slots=True)
class PairRendered(Rendered):
    """Both conversations' tokens; the second begins at token `border`."""

    border: int = 0
    spares: tuple[Spare, Spare] = (NOTHING_SPARE, NOTHING_SPARE)
    """What each conversation's prompt can lose, counted from its own beginning."""

    @property
    def longest(self) -> int:
        return max(self.border, len(self.token_ids) - self.border)


class PairRenderer(Renderer):
    """Renders `prompt`, `chosen` and `rejected` through a chat template; of each only the last answer counts."""

    objective = "preference"
    packs = False
    documents_per_row = 2

    def __init__(self, tokenizer: ModelTokenizer) -> None:
        self.chat = ChatRenderer(tokenizer)
        super().__init__(tokenizer, **self.chat.marks)

    def text(self, row: Row) -> PairText:
        prompt = [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in row["prompt"]]
        chosen, rejected = (
            self.chat.text({**row, "messages": [*prompt, {"role": "assistant", "content": row[name]}]})
            for name in ("chosen", "rejected")
        )
        border = len(chosen.text)
        spans = (*chosen.spans, *(_moved(span, border) for span in rejected.spans))
        last = row["prompt"][-1]
        asked = last.get("content") if last["role"] == "user" else None
        spare = tuple(
            self.chat.spare(half, asked) if isinstance(asked, str) else NOTHING_SPARE for half in (chosen, rejected)
        )
        return PairText(chosen.text + rejected.text, spans, border=border, spares=(spare[0], spare[1]))

    def encode(self, texts: Sequence[RenderedText], *, offsets: bool = True) -> list[Any]:
        flat = self.chat.encode([half for text in texts for half in _halves(text)], offsets=offsets)
        return [_Both(*flat[i : i + 2]) for i in range(0, len(flat), 2)]

    def tokens(self, rendered: RenderedText, encoding: Any) -> PairRendered:
        chosen, rejected = (
            self.chat.tokens(half, mine)
            for half, mine in zip(_halves(rendered), (encoding.chosen, encoding.rejected), strict=True)
        )
        border = len(chosen.token_ids)
        loss_spans = (*chosen.loss_spans, *((a + border, b + border) for a, b in rejected.loss_spans))
        straddling = chosen.straddling + rejected.straddling
        ids = chosen.token_ids + rejected.token_ids
        spares = (chosen.spare or NOTHING_SPARE, rejected.spare or NOTHING_SPARE)
        return PairRendered(rendered.text, rendered.spans, ids, loss_spans, straddling, border=border, spares=spares)

    def documents(self, rendered: Rendered, max_length: int, long_rows: LongRows, counts: Counts) -> Iterator[Piece]:
        """Two documents, or none: a pair with a half that is left out says nothing. `split` leaves long pairs out.

        `truncate` takes the same tokens of both prompts: what is learned is which of two answers to one prompt is
        better.
        """
        assert isinstance(rendered, PairRendered)
        counts.rows += 1
        counts.straddling += rendered.straddling > 0
        excess = max(rendered.longest - max_length, 0)
        counts.long_rows += excess > 0
        ids, mask, border = rendered.token_ids, rendered.loss_mask, rendered.border
        way: LongRows = "truncate" if long_rows == "truncate" else "drop"
        halves = [
            piece
            for half, part, spare in (
                (ids[:border], mask[:border], rendered.spares[0]),
                (ids[border:], mask[border:], rendered.spares[1]),
            )
            for piece in cut(half, part, len(half) - excess, way, spare)
        ]
        if len(halves) < 2:
            counts.dropped_long += 1
            return
        if not all(half.loss_mask[1:].any() for half in halves):
            counts.dropped_unlabelled += 1
            return
        counts.documents += 2
        yield from halves


@dataclass(frozen=True)
class _Both:
    chosen: Any
    rejected: Any

    def __len__(self) -> int:
        return max(len(self.chosen), len(self.rejected))


def _halves(text: RenderedText) -> tuple[RenderedText, RenderedText]:
    assert isinstance(text, PairText)
    return text.halves


def _moved(span: Span, by: int) -> Span:
    return replace(span, start=span.start + by, stop=span.stop + by, end=span.end + by)
