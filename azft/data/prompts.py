"""Tasks with an instruction (answer, translate, summarize): a row's columns make a prompt, and its target the answer.

A model made for chat is asked as it will be when it is served: the prompt is a user's turn, the target the
assistant's. Any other model sees both as text, a line apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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
        self.target = str(task.target)

    def text(self, row: Row) -> RenderedText:
        rendered = self.inner.text(self.conversation(row) if self.tokenizer.template else self.completion(row))
        right = references(row[self.target])
        self.refuse_what_is_no_text("".join(right))
        return replace(rendered, references=right)

    def conversation(self, row: Row) -> dict[str, Any]:
        """The row as a chat of one question and one answer."""
        asked, answer = fill(self.prompt, row), first_text(row[self.target])
        return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}

    def completion(self, row: Row) -> dict[str, Any]:
        """The row as prompt and completion."""
        return {"prompt": fill(self.prompt, row) + "\n", "completion": first_text(row[self.target])}

    def tokens(self, rendered: RenderedText, encoding: Any) -> Rendered:
        return self.inner.tokens(rendered, encoding)


def fill(prompt: str, row: Mapping[str, Any]) -> str:
    """The prompt with the row's values in its places; a line with a place that the row has no value for is left out."""
    lines = []
    for line in prompt.split("\n"):
        names = _PLACE.findall(line)
        if all(name in row for name in names):
            lines.append(_PLACE.sub(lambda place: first_text(row[place.group(1)]), line))
    return "\n".join(lines).strip("\n")


def references(target: Any) -> tuple[str, ...]:
    """Every text that is right as the answer; "" where none is, for then nothing is to be said."""
    return tuple(strings_of(target)) or ("",)


def first_text(value: Any) -> str:
    """A value as text: the first of several answers."""
    return next(strings_of(value), "")
