"""Tasks with an instruction (answer, translate, summarize): a row's columns make a prompt, and its target the answer.

A model made for chat is asked as it will be when it is served: the prompt is a user's turn, the target the
assistant's. Any other model sees both as text, a line apart.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

from azft.data.documents import NOTHING_SPARE, Spare
from azft.data.masking import ChatRenderer
from azft.data.rendering import Rendered, RenderedText, Renderer, Row
from azft.data.text_rendering import TextRenderer
from azft.data.tokenizer import ModelTokenizer
from azft.data.values import strings_of
from azft.tasks import Task

_PLACE = re.compile(r"\{(\w+)\}")


class PromptRenderer(Renderer):
    """Renders rows through a chat template where the model has one, else as plain text."""

    def __init__(self, tokenizer: ModelTokenizer, task: Task, prompt: str | None) -> None:
        self.inner = TextRenderer(tokenizer) if tokenizer.template is None else ChatRenderer(tokenizer)
        super().__init__(tokenizer, **self.inner.marks)
        self.prompt = task.prompt if prompt is None else prompt
        self.target, self.whole = str(task.target), task.whole

    def text(self, row: Row) -> RenderedText:
        asked, answer = fill(self.prompt, row, self.whole), first_text(row[self.target])
        if isinstance(self.inner, ChatRenderer):
            turns = [{"role": "user", "content": asked.text}, {"role": "assistant", "content": answer}]
            rendered = self.inner.text({"messages": turns})
            spare = self.inner.spare(rendered, asked.text, asked.spare)
        else:
            rendered = self.inner.text({"prompt": asked.text + "\n", "completion": answer})
            spare = asked.spare.moved(len(self.inner.opening))
        right = references(row[self.target])
        self.refuse_what_is_no_text("".join(right))
        return replace(rendered, references=right, spare=spare)

    def tokens(self, rendered: RenderedText, encoding: Any) -> Rendered:
        return self.inner.tokens(rendered, encoding)


@dataclass(frozen=True, slots=True)
class Filled:
    """A prompt with a row's values in it."""

    text: str
    spare: Spare
    """Where the longest value stands that may lose its end; empty where there is none."""


def fill(prompt: str, row: Mapping[str, Any], whole: Container[str] = ()) -> Filled:
    """The prompt with the row's values in its places; a line with a place that the row has no value for is left out.

    Values of the columns in `whole` are never spare.
    """
    parts: list[str] = []
    spare, length = NOTHING_SPARE, 0
    for line in prompt.split("\n"):
        texts = _PLACE.split(line)  # text, name, text, name, ..., text
        if not all(name in row for name in texts[1::2]):
            continue
        for number, one in enumerate(texts):
            value = first_text(row[one]) if number % 2 else one
            if number % 2 and one not in whole and len(value) > spare.end - spare.start:
                spare = Spare(length, length + len(value))
            parts.append(value)
            length += len(value)
        parts.append("\n")
        length += 1
    joined = "".join(parts)
    text = joined.strip("\n")
    lead = len(joined) - len(joined.lstrip("\n"))
    start, end = (min(max(place - lead, 0), len(text)) for place in (spare.start, spare.end))
    return Filled(text, Spare(start, end))


def references(target: Any) -> tuple[str, ...]:
    """Every text that is right as the answer; "" where none is, for then nothing is to be said."""
    return tuple(strings_of(target)) or ("",)


def first_text(value: Any) -> str:
    """A value as text: the first of several answers."""
    return next(strings_of(value), "")
