"""Columns of preference data: a prompt, the answer that is preferred, and one that is not.

Accepted besides plain text are conversations, and OpenAI's form (`input.messages`, `preferred_output`,
`non_preferred_output`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from azft.data.chat import check_messages, normalise_messages
from azft.data.rules import Problem
from azft.data.text_columns import check_plain
from azft.data.values import kind_of

_ANSWER = {"role": "assistant", "content": "..."}


def check_prompt(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of a prompt: text, or the messages up to the one that is to be answered."""
    if isinstance(value, str):
        yield from check_plain(value, column)
        return
    turns = _messages(value)
    if not isinstance(turns, list):
        expected = "text or a list of messages"
        yield Problem("wrong-type", {"where": f"Column `{column}`", "found": kind_of(value), "expected": expected})
        return
    if not turns:
        yield Problem("no-messages")
        return
    last = turns[-1].get("role") if isinstance(turns[-1], dict) else None
    if last == "assistant":
        yield Problem("prompt-answered", {"column": column})
        return
    yield from check_messages([*turns, _ANSWER], column, {name: v for name, v in row.items() if name == "tools"})


def check_answer(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of an answer: text, an assistant's message, or a list of one."""
    del row
    text = answer_text(value)
    if isinstance(text, str):
        yield from check_plain(text, column)
    else:
        expected = "text or one message of the assistant"
        yield Problem("wrong-type", {"where": f"Column `{column}`", "found": kind_of(value), "expected": expected})


def check_worse_answer(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """As `check_answer`, and whether there is anything to prefer about the other one."""
    yield from check_answer(value, column, row)
    if answer_text(value) is not None and answer_text(value) == answer_text(row.get("chosen")):
        yield Problem("nothing-to-prefer")


def normalise_prompt(value: Any) -> list[dict[str, Any]]:
    """A checked prompt as messages."""
    return normalise_messages([{"role": "user", "content": value}] if isinstance(value, str) else _messages(value))


def answer_text(value: Any) -> str | None:
    """An answer's text; None for what is none."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict) and value.get("role") == "assistant":
        value = value.get("content")
    return value if isinstance(value, str) else None


def _messages(value: Any) -> Any:
    return value.get("messages") if isinstance(value, dict) else value
