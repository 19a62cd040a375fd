"""A row of the chat task as chat templates expect it: without what only the loss needs, tool arguments parsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from azft.data.chat_template import Message
from azft.data.template_probe import RefusalError


def conversation(row: Mapping[str, Any]) -> tuple[list[Message], list[Any] | None]:
    """Messages and tools as templates expect them: without `weight`, and with tool arguments parsed.

    OpenAI's format has a call's arguments as JSON text; templates write them with `tojson`, as servers do.
    """
    messages: list[Message] = []
    for message in row["messages"]:
        turn = {key: value for key, value in message.items() if key != "weight" and value is not None}
        if "tool_calls" in turn:
            turn["tool_calls"] = [_parsed_call(call) for call in turn["tool_calls"]]
        messages.append(turn)
    return messages, row.get("tools") or None


def _parsed_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = orjson.loads(function["arguments"])
    except orjson.JSONDecodeError:
        raise RefusalError("data-tool-arguments", f"The arguments of {function.get('name')} are not JSON.") from None
    return {**call, "function": {**function, "arguments": arguments}}
