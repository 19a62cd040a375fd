"""What tool calls, their answers and the column `tools` must look like: OpenAI's format.

Works on decoded values of any shape whatever and yields problems, never raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from azft.data.rules import Problem
from azft.data.values import kind_of


def check_tool_calls(messages: list[Any], tools: Any) -> Iterator[Problem]:
    """Problems of the calls and answers in a conversation; `tools` is the row's column, or None."""
    defined = tool_names(tools)
    open_calls: dict[str, int] = {}
    seen: set[str] = set()
    for turn, message in enumerate(messages, 1):
        role = message.get("role")
        if role == "tool":
            answered = message.get("tool_call_id")
            if not isinstance(answered, str) or answered not in seen:
                given = f"answers the unknown call `{answered}`" if isinstance(answered, str) else "has no tool_call_id"
                yield Problem("tool-answer-unknown", {"turn": turn, "reason": f"the tool turn {given}"})
            else:
                open_calls.pop(answered, None)
        elif message.get("tool_call_id") is not None:
            yield Problem("tool-answer-unknown", {"turn": turn, "reason": f"a {role} turn has a tool_call_id"})
        calls = message.get("tool_calls")
        if calls is None:
            continue
        if role != "assistant":
            yield Problem(
                "tool-call", {"turn": turn, "reason": f"a {role} turn has tool_calls; only the assistant calls tools"}
            )
            continue
        if not isinstance(calls, list) or not calls:
            yield Problem(
                "tool-call", {"turn": turn, "reason": f"tool_calls is {kind_of(calls)}, not a list with calls"}
            )
            continue
        for number, call in enumerate(calls, 1):
            yield from _call(turn, number, call, defined)
            call_id = call.get("id") if isinstance(call, dict) else None
            if isinstance(call_id, str) and call_id:
                if call_id in seen:
                    yield Problem("tool-call-id-reused", {"turn": turn, "id": call_id})
                seen.add(call_id)
                open_calls[call_id] = turn
    for call_id, turn in open_calls.items():
        if turn != len(messages):  # a row may end with the call that the model should learn to make
            yield Problem("tool-call-unanswered", {"turn": turn, "id": call_id})


def _call(turn: int, number: int, call: Any, defined: set[str] | None) -> Iterator[Problem]:
    def malformed(reason: str) -> Problem:
        return Problem("tool-call", {"turn": turn, "reason": f"tool call {number} {reason}"})

    if not isinstance(call, dict):
        yield malformed(f"is {kind_of(call)}, not an object")
        return
    if not isinstance(call.get("id"), str) or not call["id"]:
        yield malformed("has no id")
    if call.get("type") != "function":
        yield malformed('has no `type`: "function"')
    function = call.get("function")
    if not isinstance(function, dict):
        yield malformed("has no `function` object")
        return
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        yield malformed("has no function name")
        name = "?"
    elif defined is not None and name not in defined:
        yield Problem("tool-undefined", {"turn": turn, "name": name, "reason": "`tools` does not describe"})
    elif defined is None:
        yield Problem(
            "tool-undefined", {"turn": turn, "name": name, "reason": "the row, having no `tools`, does not describe"}
        )
    if not isinstance(arguments, str):
        values = {"turn": turn, "name": name, "expected": "text", "reason": f"they are {kind_of(arguments)}"}
        yield Problem("tool-arguments", values)
        return
    try:
        parsed = msgspec.json.decode(arguments.encode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        yield Problem("tool-arguments", {"turn": turn, "name": name, "expected": "valid JSON", "reason": str(error)})
    else:
        if not isinstance(parsed, dict):
            values = {"turn": turn, "name": name, "expected": "a JSON object", "reason": f"they are {kind_of(parsed)}"}
            yield Problem("tool-arguments", values)


def check_tools(value: Any, column: str, _row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of the functions that a row offers, in OpenAI's format."""
    if not isinstance(value, list):
        yield Problem(
            "wrong-type", {"where": f"Column `{column}`", "found": kind_of(value), "expected": "a list of tools"}
        )
        return
    names: set[str] = set()
    for number, tool in enumerate(value, 1):
        function = tool.get("function") if isinstance(tool, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        reason = ""
        if not isinstance(tool, dict):
            reason = f"is {kind_of(tool)}, not an object"
        elif tool.get("type") != "function":
            reason = 'has no `type`: "function"'
        elif not isinstance(function, dict):
            reason = "has no `function` object"
        elif not isinstance(name, str) or not name:
            reason = "has no function name"
        elif not isinstance(function.get("parameters", {}), dict):
            reason = f"has {kind_of(function['parameters'])} as its parameters, not a JSON Schema object"
        if reason:
            yield Problem("tools-malformed", {"column": column, "reason": f"tool {number} {reason}"})
        if isinstance(name, str):
            if name in names:
                yield Problem("tool-name-repeated", {"column": column, "name": name})
            names.add(name)


def tool_names(tools: Any) -> set[str] | None:
    """Names of the functions that are described; None when the row has no `tools`."""
    if not isinstance(tools, list):
        return None
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)]
    return {f["name"] for f in functions if isinstance(f, dict) and isinstance(f.get("name"), str)}
