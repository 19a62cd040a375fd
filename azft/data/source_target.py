"""Rows for encoder-decoders: the encoder reads the prompt, the decoder writes the target, and only that is learned.

A document is the source's tokens followed by the target's; where the loss begins, the target does. Both are encoded
with what the tokenizer itself puts around a text (T5's </s>), and the target always ends with the end-of-text token.
Neither is cut but for the source's longest value (`azft.data.documents`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from azft.data.documents import NOTHING_SPARE
from azft.data.prompts import fill, first_text, references
from azft.data.rendering import Rendered, RenderedText, Renderer, Row, Span
from azft.data.template_probe import control_texts
from azft.data.text_rendering import end_of_text
from azft.data.tokenizer import ModelTokenizer
from azft.tasks import Task


@dataclass(frozen=True, slots=True)
class SourceTargetText(RenderedText):
    """Both texts as they are shown, with the tokenizer's marks; `source` and `target` are without."""

    source: str = ""
    target: str = ""


class SourceTargetRenderer(Renderer):
    """Renders a task's prompt as the source and its target column as the target."""

    objective = "sequence-to-sequence"
    packs = False
    splits = False

    def __init__(self, tokenizer: ModelTokenizer, task: Task, prompt: str | None) -> None:
        stop, stop_id = end_of_text(tokenizer)
        super().__init__(tokenizer, stop=stop, stop_id=stop_id, control_texts=control_texts(tokenizer, stop))
        self.prompt = task.prompt if prompt is None else prompt
        self.target, self.whole = str(task.target), task.whole
        self.before, self.after = _marks(tokenizer)

    def text(self, row: Row) -> SourceTargetText:
        asked = fill(self.prompt, row, self.whole)
        source, target, right = asked.text, first_text(row[self.target]), references(row[self.target])
        self.refuse_control_tokens([source, target], "The row")
        for text in (source, target, *right):
            self.refuse_what_is_no_text(text)
        shown = "".join((*self.before, source, *self.after))
        text = shown + target + self.stop
        span = Span(len(shown), len(text) - len(self.stop), len(text))
        return SourceTargetText(text, (span,), right, asked.spare, source=source, target=target)

    def encode(self, texts: Sequence[RenderedText], *, offsets: bool = True) -> list[Any]:
        parts = [part for text in texts for part in _parts(text)]
        flat = self._encoded(parts, special_tokens=True, offsets=offsets)
        both = zip(flat[::2], flat[1::2], strict=True)
        return [_Encoded(source, self._ended(target.ids)) for source, target in both]

    def tokens(self, rendered: RenderedText, encoding: Any) -> Rendered:
        source, target = encoding.source, encoding.target
        ids = source.ids + target
        before, border = len(self.before), len(source.ids)
        # The tokenizer's marks have no place in the source: theirs is (0, 0), wherever they stand.
        offsets = source.offsets[before : border - len(self.after)]
        spare = (rendered.spare or NOTHING_SPARE).tokens(offsets).moved(before)
        loss = ((border, len(ids)),)
        return Rendered(rendered.text, rendered.spans, ids, loss, references=rendered.references, spare=spare)

    def _ended(self, target: list[int]) -> list[int]:
        return target if target and target[-1] == self.stop_id else [*target, self.stop_id]


@dataclass(frozen=True, slots=True)
class _Encoded:
    source: Any
    target: list[int]

    def __len__(self) -> int:
        return len(self.source.ids) + len(self.target)


def _parts(text: RenderedText) -> tuple[str, str]:
    assert isinstance(text, SourceTargetText)
    return text.source, text.target


def _marks(tokenizer: ModelTokenizer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The special tokens that the tokenizer puts before and after a text."""
    encoding = tokenizer.backend.encode("a", add_special_tokens=True)
    special = [bool(mark) for mark in encoding.special_tokens_mask]
    first = special.index(False)
    last = len(special) - special[::-1].index(False)
    return tuple(encoding.tokens[:first]), tuple(encoding.tokens[last:])
