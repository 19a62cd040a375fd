"""Named entities: words, and a tag that a model is to tell about each of them.

Words are joined by spaces and encoded as one text, as a pipeline gets it when the model is served. A word's tag is told
at its first token; its other tokens, and special ones, are not in the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from azft.data.documents import Counts, LongRows, Piece
from azft.data.encoded import Encoded
from azft.data.label_columns import label_number
from azft.data.label_counts import OUTSIDE
from azft.data.reading import Read, ReadingRenderer
from azft.data.rendering import Rendered, RenderedText, Row, Span
from azft.data.template_probe import RefusalError


@dataclass(frozen=True, slots=True)
class TagText(RenderedText):
    """The words and their tags; `text` shows a person both."""

    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


class TagRenderer(ReadingRenderer):
    """Rows of `tokens` and `tags`."""

    objective = "tag"
    target_width = 1

    def text(self, row: Row) -> TagText:
        words, tags = tuple(row["tokens"]), tuple(row["tags"])
        shown, spans = "", []
        for word, tag in zip(words, tags, strict=True):
            self.refuse_what_is_no_text(word)
            shown += (" " if shown else "") + word
            if tag != OUTSIDE:
                spans.append(Span(len(shown), len(shown) + len(tag) + 1, len(shown) + len(tag) + 1))
                shown += f"/{tag}"
        return TagText(shown, tuple(spans), words=words, tags=tags)

    def inputs(self, text: RenderedText) -> str:
        assert isinstance(text, TagText)
        return " ".join(text.words)

    def tokens(self, rendered: RenderedText, encoding: Any) -> Read:
        assert isinstance(rendered, TagText)
        encoded = Encoded.of(encoding)
        places = first_tokens(rendered.words, encoded)
        numbers = [self._number(tag) for tag, place in zip(rendered.tags, places, strict=True) if place is not None]
        there = [place for place in places if place is not None]
        return Read(
            rendered.text,
            rendered.spans,
            encoded.ids.tolist(),
            tuple((place, place + 1) for place in there),
            straddling=len(places) - len(there),
            targets=np.array(numbers, dtype=np.int32).reshape(-1, 1),
            encoded=encoded,
        )

    def documents(self, rendered: Rendered, max_length: int, long_rows: LongRows, counts: Counts) -> Iterator[Piece]:
        """One document; several where a long row is split."""
        assert isinstance(rendered, Read)
        assert rendered.targets is not None
        encoded, mask = rendered.encoded, rendered.loss_mask
        counts.rows += 1
        counts.straddling += rendered.straddling > 0
        parts: list[NDArray[np.int64]] = [np.arange(len(encoded))]
        if len(encoded) > max_length:
            counts.long_rows += 1
            parts = list(encoded.places(max_length)) if long_rows in ("split", "truncate") else []
            parts = parts[:1] if long_rows == "truncate" else parts
            counts.dropped_long += not parts
        told_before = np.concatenate([[0], np.cumsum(mask)])
        for part in parts:
            told = told_before[part][mask[part]]
            if len(told) == 0:
                counts.dropped_unlabelled += 1
                continue
            counts.documents += 1
            yield Piece(encoded.ids[part], mask[part], rendered.targets[told])

    def _number(self, tag: str) -> int:
        number = label_number(tag, self.names)
        if number is None:
            raise RefusalError(
                "data-unknown-label",
                f"The row's tag `{tag}` is none of the {len(self.names)} that are known.",
                fix="Correct the row, or name all tags in data.labels.",
            )
        return number


def first_tokens(words: Sequence[str], encoded: Encoded) -> list[int | None]:
    """The first token of each word of a text whose words are a space apart; None for a word in which none begins.

    A token may bring the space before it along (GPT-2's way): then it begins behind the space.
    """
    text = " ".join(words)
    found: list[int | None] = []
    token, position = 0, 0
    for word in words:
        end = position + len(word)
        while token < len(encoded) and (encoded.text_of[token] < 0 or _begin(text, encoded, token) < position):
            token += 1
        found.append(token if token < len(encoded) and _begin(text, encoded, token) < end else None)
        position = end + 1
    return found


def _begin(text: str, encoded: Encoded, token: int) -> int:
    """Where a token's text begins, without the white space before it; -1 for one that is nothing else."""
    start, end = (int(place) for place in encoded.offsets[token])
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()) if piece.strip() else -1
