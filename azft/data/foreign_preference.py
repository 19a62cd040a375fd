"""Preferences as other programs write them, made into a prompt and two answers.

Three forms are read: whole conversations `chosen` and `rejected` that differ in their last turn (TRL, UltraFeedback),
ShareGPT's `conversations` with one turn in each of them, and OpenAI's `input`, `preferred_output`,
`non_preferred_output`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from azft.data.foreign_chat import NotConvertibleError, conversation, value_of
from azft.data.values import kind_of


def preference(row: Mapping[str, Any]) -> dict[str, Any]:
    """{prompt, chosen, rejected, tools} of a row. Raises `NotConvertibleError`."""
    if "preferred_output" in row:
        given = value_of(row.get("input"))
        asked = given if isinstance(given, dict) else {"messages": given}
        form = conversation(asked.get("messages"), column="input", tools=asked.get("tools"))
        names = ("preferred_output", "non_preferred_output")
    elif "conversations" in row:
        tools = row.get("tools")
        form = conversation(row["conversations"], column="conversations", system=row.get("system"), tools=tools)
        names = ("chosen", "rejected")
    else:
        return _two_conversations(row)
    better, worse = (_last(_turns(row.get(name), name), name) for name in names)
    return _row(form["messages"], better, worse, form.get("tools"))


def _two_conversations(row: Mapping[str, Any]) -> dict[str, Any]:
    better, worse = (_turns(row.get(name), name) for name in ("chosen", "rejected"))
    before = better[:-1]
    if before != worse[:-1]:
        reason = "`chosen` and `rejected` differ before their last turns"
        raise NotConvertibleError(reason, "Only the answer may differ: write two rows, or remove the row.")
    prompt: Any = before or row.get("prompt")
    if isinstance(prompt, list):
        prompt = conversation(prompt, column="prompt")["messages"]
    if not prompt:
        raise NotConvertibleError("what was asked is missing", "Write it as `prompt`, or as turns before the answers.")
    return _row(prompt, _last(better, "chosen"), _last(worse, "rejected"), value_of(row.get("tools")))


def _turns(value: Any, name: str) -> list[dict[str, Any]]:
    """An answer in any form as the turns that end with it."""
    value = [value] if isinstance(value, dict) else value
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    if not isinstance(value, list) or not value:
        raise NotConvertibleError(f"`{name}` is {kind_of(value)}, not an answer", "Write a text, or a turn.")
    messages: list[dict[str, Any]] = conversation(value, column=name)["messages"]
    return messages


def _last(turns: list[dict[str, Any]], name: str) -> str:
    if turns[-1]["role"] != "assistant" or "tool_calls" in turns[-1]:
        raise NotConvertibleError(f"`{name}` does not end with an answer in text", "Cut off what follows the answer.")
    return str(turns[-1]["content"])


def _row(prompt: Any, better: str, worse: str, tools: Any) -> dict[str, Any]:
    row = {"prompt": prompt, "chosen": better, "rejected": worse}
    return {**row, "tools": tools} if tools else row
