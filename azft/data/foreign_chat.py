"""Conversations as other programs write them, made into messages: names of keys and roles, parts, function calls.

One reader for ShareGPT, OpenAI (also its older function calls) and everything between. What the result must be like is
not judged here: the data check does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from azft.data.chat import KEYS, OTHER_ROLES, ROLES
from azft.data.values import kind_of

_CALLS = "function_call"
"""ShareGPT's role for a turn that is a call, and the key of OpenAI's older calls."""
_TEXT_PARTS = {"text", "input_text", "output_text"}


class NotConvertibleError(Exception):
    """Why a row is not of the format that it should be, and what to do."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


def conversation(turns: Any, *, column: str, system: Any = None, tools: Any = None) -> dict[str, Any]:
    """{messages, tools} of a list of turns; a `system` text comes first. Raises `NotConvertibleError`."""
    listed = value_of(turns)
    if not isinstance(listed, list):
        raise NotConvertibleError(f"`{column}` is {kind_of(listed)}, not a list of turns", "Write a list there.")
    messages = [{"role": "system", "content": system}] if isinstance(system, str) and system.strip() else []
    reader = _Turns()
    for number, turn in enumerate(listed, 1):
        messages.append(reader.read(number, turn))
    described = functions(tools)
    return {"messages": messages, "tools": described} if described else {"messages": messages}


def functions(tools: Any) -> list[Any]:
    """The column `tools` in OpenAI's form; bare descriptions (ShareGPT's, and OpenAI's older `functions`) too."""
    listed = value_of(tools)
    if listed in (None, "", []):
        return []
    if not isinstance(listed, list):
        raise NotConvertibleError(f"`tools` is {kind_of(listed)}, not a list of functions", "Write a list there.")
    bare = [isinstance(tool, dict) and "function" not in tool and "name" in tool for tool in listed]
    return [{"type": "function", "function": tool} if b else tool for tool, b in zip(listed, bare, strict=True)]


def value_of(value: Any) -> Any:
    """The value of a cell: a text that is a JSON list or object stands for it, as in CSV files."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return msgspec.json.decode(value)
        except (ValueError, RecursionError):
            return value
    return value


class _Turns:
    """Reads the turns of one conversation in order; calls without an id get one, and answers find their call."""

    def __init__(self) -> None:
        self._calls = 0
        self._open: list[tuple[str, str]] = []  # (id, name) of calls that no answer has come to yet

    def read(self, number: int, turn: Any) -> dict[str, Any]:
        where = f"turn {number}"
        if not isinstance(turn, dict):
            raise NotConvertibleError(f"{where} is {kind_of(turn)}, not an object", "Write {role, content}.")
        given = turn.get("role", turn.get("from"))
        if not isinstance(given, str):
            raise NotConvertibleError(f"{where} has no role", "Say who speaks: user, assistant, ...")
        content = turn.get("content", turn.get("value"))
        if given == _CALLS:
            return self._answer(where, "", _listed(value_of(content)))
        role = given if given in ROLES else OTHER_ROLES.get(given.strip().lower(), given.strip().lower())
        if role not in ROLES:
            raise NotConvertibleError(f"{where} has the unknown role `{given}`", f"Use one of: {', '.join(ROLES)}.")
        text = _text(where, content)
        if role == "tool":
            return {"role": role, "content": text, "tool_call_id": self._answered(where, turn)}
        calls = _listed(turn.get("tool_calls") or turn.get(_CALLS) or [])
        message = self._answer(where, text, calls) if calls else {"role": role, "content": text}
        message["role"] = role
        return message | {key: turn[key] for key in ("name", "weight") if key in KEYS and turn.get(key) is not None}

    def _answer(self, where: str, text: str, calls: list[Any]) -> dict[str, Any]:
        return {"role": "assistant", "content": text, "tool_calls": [self._call(where, call) for call in calls]}

    def _call(self, where: str, call: Any) -> dict[str, Any]:
        function = call.get("function", call) if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str):
            raise NotConvertibleError(f"{where} calls a function without a name", "Write {name, arguments}.")
        arguments = function.get("arguments", function.get("parameters", {}))
        if not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        self._calls += 1
        given = call.get("id")
        call_id = given if isinstance(given, str) and given else f"call_{self._calls}"
        self._open.append((call_id, name))
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}

    def _answered(self, where: str, turn: Mapping[str, Any]) -> str:
        """The id of the call that a tool's turn answers: as given, else the first open one of its name, or at all."""
        given, name = turn.get("tool_call_id"), turn.get("name")
        fitting = [call for call in self._open if call[0] == given] if given is not None else list(self._open)
        fitting = [call for call in fitting if name in (None, call[1])] or fitting
        if not fitting:
            which = "no call" if given is None else f"the unknown call `{given}`"
            raise NotConvertibleError(f"{where} answers {which}", "Put the call before it, or remove the turn.")
        self._open.remove(fitting[0])
        return fitting[0][0]


def _text(where: str, content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise NotConvertibleError(f"the content of {where} is {kind_of(content)}, not text", "Write it as text.")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str) or kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            shown = f"`{kind}`" if isinstance(kind, str) else kind_of(part)
            reason = f"{where} has a part that is no text ({shown})"
            raise NotConvertibleError(reason, "Only text can be learned: remove the part or the row.")
        texts.append(part["text"])
    return "".join(texts)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
