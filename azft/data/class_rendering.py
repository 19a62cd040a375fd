"""Classification: a text, or two, and the label or labels that a model is to tell about it.

One token stands for the whole in the loss mask (the first, which encoders are read at; a decoder is read at its last).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from azft.data.documents import Counts, LongRows, Piece
from azft.data.encoded import Encoded
from azft.data.label_columns import label_number
from azft.data.reading import Read, ReadingRenderer
from azft.data.rendering import Rendered, RenderedText, Row, Span
from azft.data.template_probe import RefusalError
from azft.data.tokenizer import ModelTokenizer


@dataclass(frozen=True, slots=True)
class ClassText(RenderedText):
    """The texts as they are encoded, and the row's labels; `text` shows both to a person."""

    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


class ClassRenderer(ReadingRenderer):
    """Rows with `label`, of which one is right, or with `labels`, of which several may be (`several`)."""

    def __init__(self, tokenizer: ModelTokenizer, labels: Sequence[str], *, several: bool) -> None:
        super().__init__(tokenizer, labels)
        self.several = several
        self.reads_last = tokenizer.model_kind == "decoder"
        self.objective = "classes" if several else "class"
        self.target_width = max(1, len(labels)) if several else 1

    def text(self, row: Row) -> ClassText:
        texts = (row["text"], row["text_pair"]) if "text_pair" in row else (row["text"],)
        labels = tuple(row["labels"]) if "labels" in row else (row["label"],)
        for text in texts:
            self.refuse_what_is_no_text(text)
        shown = "\n".join(texts) + "\n"
        told = ", ".join(labels) or "(none)"
        spans = (Span(len(shown), len(shown) + len(told), len(shown) + len(told)),)
        return ClassText(shown + told, spans, texts=texts, labels=labels)

    def inputs(self, text: RenderedText) -> str | tuple[str, str]:
        assert isinstance(text, ClassText)
        first, *second = text.texts
        return (first, second[0]) if second else first

    def tokens(self, rendered: RenderedText, encoding: Any) -> Read:
        assert isinstance(rendered, ClassText)
        encoded = Encoded.of(encoding)
        place = len(encoded) - 1 if self.reads_last else 0
        return Read(
            rendered.text,
            rendered.spans,
            encoded.ids.tolist(),
            ((place, place + 1),),
            targets=self._targets(rendered.labels),
            encoded=encoded,
        )

    def documents(self, rendered: Rendered, max_length: int, long_rows: LongRows, counts: Counts) -> Iterator[Piece]:
        """One document; several, with the same labels, where a long row is split."""
        assert isinstance(rendered, Read)
        encoded = rendered.encoded
        counts.rows += 1
        parts = [encoded]
        if len(encoded) > max_length:
            counts.long_rows += 1
            parts = [encoded.at(places) for places in encoded.places(max_length)] if long_rows == "split" else []
            if long_rows == "truncate":
                parts = [encoded.shortened(max_length)]
            counts.dropped_long += not parts
        for part in parts:
            mask = np.zeros(len(part), dtype=np.bool_)
            mask[-1 if self.reads_last else 0] = True
            counts.documents += 1
            yield Piece(part.ids, mask, rendered.targets, second=part.second)

    def _targets(self, labels: Sequence[str]) -> Any:
        """(1, 1) the label's number; with `several`, (1, labels) ones and zeros."""
        numbers = [label_number(label, self.names) for label in labels]
        for label, number in zip(labels, numbers, strict=True):
            if number is None:
                raise RefusalError(
                    "data-unknown-label",
                    f"The row's label `{label}` is none of the {len(self.names)} that are known: "
                    f"{', '.join(self.names[:8])}{', ...' if len(self.names) > 8 else ''}.",
                    fix="Correct the row, or name all labels in data.labels.",
                )
        if self.several:
            told = np.zeros((1, self.target_width), dtype=np.int32)
            told[0, [number for number in numbers if number is not None]] = 1
            return told
        if len(numbers) != 1:
            raise RefusalError(
                "data-several-labels",
                f"The row has {len(numbers)} labels, but the first row has one `label`.",
                fix="Write all rows with `labels`, or all with `label`.",
            )
        return np.array([numbers], dtype=np.int32)
