"""Rows for models that paint: the caption as the text encoder's tokens, and the picture as pixels.

One thing is learned of a row, its picture; in the loss mask the caption's last token stands for it. Captions are filled
up to the length that the text encoder reads when batches are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from azft.data.documents import Counts, LongRows, Piece
from azft.data.picture_model import read_picture_model
from azft.data.pictures import open_picture, pixels_of
from azft.data.rendering import Rendered, RenderedText, Renderer, Row, Span
from azft.data.template_probe import RefusalError, control_texts
from azft.data.text_rendering import end_of_text
from azft.data.tokenizer import ModelTokenizer


@dataclass(frozen=True, slots=True)
class PictureText(RenderedText):
    """The caption and, in base64, the picture; `text` shows a person both."""

    caption: str = ""
    picture: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture(Rendered):
    """A caption's tokens with its picture, still in base64: a batch of rows in pixels would fill the memory."""

    picture: str


class PictureRenderer(Renderer):
    """Renders captions and pictures for one model; `pixels` is the shape of a picture."""

    objective = "noise"
    packs = False
    splits = False
    refuses_by_shape = False

    def __init__(self, tokenizer: ModelTokenizer, resolution: int | None) -> None:
        stop, stop_id = end_of_text(tokenizer)
        super().__init__(tokenizer, stop=stop, stop_id=stop_id, control_texts=control_texts(tokenizer, stop))
        model = read_picture_model(tokenizer.folder.parent)
        side = resolution or model.resolution
        if side % model.factor:
            raise RefusalError(
                "model-resolution",
                f"data.resolution is {side}, but the model's pictures come in steps of {model.factor} pixels.",
                fix=f"Say {max(1, side // model.factor) * model.factor}; the model's own is {model.resolution}.",
            )
        self.pixels = (3, side, side)

    def text(self, row: Row) -> PictureText:
        caption, picture = row["text"], row["image"]
        self.refuse_control_tokens(caption, "The caption")
        self.refuse_what_is_no_text(caption)
        width, height = open_picture(picture).size
        shown = f"[picture, {width} x {height} to {self.pixels[1]} x {self.pixels[2]} pixels]"
        before = caption + "\n"
        span = Span(len(before), len(before + shown), len(before + shown))
        return PictureText(before + shown, (span,), caption=caption, picture=picture)

    def encode(self, texts: Sequence[RenderedText], *, offsets: bool = True) -> list[Any]:
        return self._encoded([_of(text).caption for text in texts], special_tokens=True, offsets=offsets)

    def tokens(self, rendered: RenderedText, encoding: Any) -> Picture:
        ids = list(encoding.ids)
        last = ((len(ids) - 1, len(ids)),)
        return Picture(rendered.text, rendered.spans, ids, last, picture=_of(rendered).picture)

    def documents(self, rendered: Rendered, max_length: int, long_rows: LongRows, counts: Counts) -> Iterator[Piece]:
        """One document with its picture; none for a long row that is dropped. `truncate` keeps the end of text."""
        assert isinstance(rendered, Picture)
        counts.rows += 1
        ids = rendered.token_ids
        if len(ids) > max_length:
            counts.long_rows += 1
            if long_rows != "truncate":
                counts.dropped_long += 1
                return
            ids = [*ids[: max_length - 1], ids[-1]]
        counts.documents += 1
        mask = np.zeros(len(ids), dtype=np.bool_)
        mask[-1] = True
        yield Piece(np.array(ids, dtype=np.int64), mask, pixels=pixels_of(rendered.picture, self.pixels[1]))


def filler_of(tokenizer: ModelTokenizer) -> int:
    """The token that fills a caption up: the tokenizer's `pad_token`, else its end of text."""
    name = tokenizer.variables.get("pad_token") or tokenizer.variables["eos_token"]
    number = tokenizer.backend.token_to_id(name)
    return end_of_text(tokenizer)[1] if number is None else int(number)


def _of(text: RenderedText) -> PictureText:
    assert isinstance(text, PictureText)
    return text
