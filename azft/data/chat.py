"""What a conversation must look like: the checker of column kind `messages`.

Works on decoded values of any shape whatever and yields problems, never raises. How fast the good rows are told from
the rest is `azft.data.chat_lane`'s business; this module explains what is wrong with the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from azft.data.lane import RowText
from azft.data.row_hash import hash_row
from azft.data.rules import Problem
from azft.data.text import text_problems
from azft.data.tool_calls import check_tool_calls
from azft.data.values import did_you_mean, kind_of

ROLES = ("system", "user", "assistant", "tool")
KEYS = ("role", "content", "name", "weight", "tool_calls", "tool_call_id")
OTHER_ROLES = {
    "human": "user", "prompter": "user", "customer": "user",
    "gpt": "assistant", "bot": "assistant", "model": "assistant", "ai": "assistant", "chatbot": "assistant",
    "chatgpt": "assistant", "agent": "assistant",
    "developer": "system", "function": "tool", "ipython": "tool", "observation": "tool",
}  # fmt: skip
REPEATED_TURN_FROM = 20
"""Characters from which an equal text in one conversation is worth a word; `Yes.` may well come twice."""


def check_messages(value: Any, column: str, row: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of one conversation. `row` holds the row's other columns by the task's names (`tools`)."""
    if not isinstance(value, list):
        yield Problem(
            "wrong-type", {"where": f"Column `{column}`", "found": kind_of(value), "expected": "a list of messages"}
        )
        return
    if not value:
        yield Problem("no-messages")
        return
    broken = False
    for turn, message in enumerate(value, 1):
        for problem in _message(turn, message):
            broken |= problem.code in {"missing-role", "unknown-role", "wrong-type"}
            yield problem
    if not broken:  # the order of turns that can't be read would only be noise
        yield from order_problems([message["role"] for message in value])
    messages = [message if isinstance(message, dict) else {} for message in value]
    yield from _repeats(messages)
    yield from _weights(messages)
    yield from check_tool_calls(messages, row.get("tools"))


def _message(turn: int, message: Any) -> Iterator[Problem]:
    where = f"Message {turn}"
    if not isinstance(message, dict):
        yield Problem(
            "wrong-type", {"where": where, "found": kind_of(message), "expected": "an object with role and content"}
        )
        return
    role = message.get("role")
    if role is None:
        share = {"from", "value"} <= message.keys()
        fix = (
            "It is ShareGPT's format: convert the file with azft convert FILE NEW.jsonl"
            if share
            else "Add it: user, assistant, ..."
        )
        yield Problem("missing-role", {"turn": turn, "fix": fix})
    elif not isinstance(role, str):
        yield Problem(
            "wrong-type", {"where": f"The role of message {turn}", "found": kind_of(role), "expected": "text"}
        )
    elif role not in ROLES:
        yield Problem("unknown-role", {"turn": turn, "role": f"`{role}`", "fix": _role_hint(role)})
    for key in message:
        if key not in KEYS and message[key] is not None and not (key in {"from", "value"} and role is None):
            yield Problem("unknown-key", {"turn": turn, "key": key, "fix": did_you_mean(key, KEYS, "Remove it.")})
    name = message.get("name")
    if name is not None and not isinstance(name, str):
        yield Problem(
            "wrong-type", {"where": f"The name of message {turn}", "found": kind_of(name), "expected": "text"}
        )
    yield from _content(turn, message, role)


def _content(turn: int, message: Mapping[str, Any], role: Any) -> Iterator[Problem]:
    content = message.get("content")
    shown_role = role if isinstance(role, str) else "no role"
    where = f"Message {turn} ({shown_role})"
    calls_tools = role == "assistant" and bool(message.get("tool_calls"))
    if content is None:
        if calls_tools or {"from", "value"} <= message.keys():
            return
        code = "empty-content" if "content" in message else "missing-content"
        yield Problem(code, {"turn": turn, "role": shown_role})
    elif isinstance(content, str):
        if not content.strip() and not calls_tools and role != "tool":
            yield Problem("empty-content", {"turn": turn, "role": shown_role})
        yield from text_problems(content, where)
    elif isinstance(content, list):
        yield from _parts(turn, content, where, may_be_empty=calls_tools or role == "tool", role=shown_role)
    else:
        values = {
            "where": f"The content of message {turn} ({shown_role})",
            "found": kind_of(content),
            "expected": "text",
        }
        yield Problem("wrong-type", values)


def _parts(turn: int, parts: list[Any], where: str, *, may_be_empty: bool, role: str) -> Iterator[Problem]:
    sound = True
    for number, part in enumerate(parts, 1):
        reason = ""
        if not isinstance(part, dict):
            reason = f"is {kind_of(part)}, not an object"
        elif part.get("type") != "text":
            given = part.get("type")
            reason = f"has the type {f'`{given}`' if isinstance(given, str) else kind_of(given)}, not `text`"
        elif not isinstance(part.get("text"), str):
            reason = f"has {kind_of(part.get('text'))} as its `text`"
        if reason:
            sound = False
            yield Problem("content-part", {"turn": turn, "part": number, "reason": reason})
        else:
            yield from text_problems(part["text"], where)
    if sound and not may_be_empty and not "".join(part["text"] for part in parts).strip():
        yield Problem("empty-content", {"turn": turn, "role": role})


def order_problems(roles: list[str]) -> Iterator[Problem]:
    """What is wrong with the order of known roles; the row has one message at least."""
    spoken = [role for role in roles if role != "system"]
    for index, role in enumerate(roles[1:], 1):
        if role == "system":
            yield Problem("late-system", {"turn": index + 1})
        elif role == roles[index - 1] and role != "tool":
            yield Problem("repeated-role", {"previous": index, "turn": index + 1, "role": role})
    if "assistant" not in roles:
        yield Problem("no-assistant")
        return
    if spoken[0] == "assistant":
        yield Problem("assistant-first")
    if roles[-1] != "assistant":
        yield Problem("last-not-assistant", {"role": roles[-1]})


def _repeats(messages: list[Any]) -> Iterator[Problem]:
    seen: dict[tuple[Any, str], int] = {}
    for turn, message in enumerate(messages, 1):
        content, role = message.get("content"), message.get("role")
        if isinstance(content, str) and isinstance(role, str) and len(content) >= REPEATED_TURN_FROM:
            first = seen.setdefault((role, content), turn)
            if first != turn:
                yield Problem("repeated-turn", {"previous": first, "turn": turn, "role": role})


def _weights(messages: list[Any]) -> Iterator[Problem]:
    learned = answers = 0
    for turn, message in enumerate(messages, 1):
        role, weight = message.get("role"), message.get("weight")
        if role == "assistant":
            answers += 1
            learned += weight is None or weight != 0
        if weight is None:
            continue
        if type(weight) is not int or weight not in (0, 1):
            plain = isinstance(weight, int | float | str) and not isinstance(weight, bool)
            value = f"`{weight}`" if plain else kind_of(weight)
            yield Problem("bad-weight", {"turn": turn, "value": value})
        elif role != "assistant":
            yield Problem("weight-on-other", {"turn": turn, "role": role})
    if answers and not learned:
        yield Problem("nothing-to-learn")


def normalise_messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A checked conversation as everything downstream reads it: known keys only, no nulls, text parts joined to text.

    An assistant turn that only calls tools has the content "".
    """
    result = []
    for message in messages:
        plain = {key: message[key] for key in KEYS if message.get(key) is not None}
        content = plain.get("content", "")
        plain["content"] = "".join(part["text"] for part in content) if isinstance(content, list) else content
        result.append(plain)
    return result


def text_of(messages: list[dict[str, Any]]) -> RowText:
    """What near-duplicates are compared by. The last turn is the answer; system turns stand apart."""
    return row_text([message["role"] for message in messages], [message["content"] for message in messages])


def row_text(roles: Sequence[str], contents: Sequence[str]) -> RowText:
    """`text_of` for roles and contents."""
    if roles[0] == "system" and "system" not in roles[1:]:
        return RowText(contents[0], "\n".join(contents[1:-1]), contents[-1])
    turns = list(zip(roles, contents, strict=True))
    system = "\n".join([text for role, text in turns if role == "system"])
    return RowText(system, "\n".join([text for role, text in turns[:-1] if role != "system"]), contents[-1])


def digests(messages: list[dict[str, Any]]) -> tuple[int, int]:
    """Hashes (`azft.data.row_hash`) of a normalised conversation, and of all but its last turn."""
    plain = all(len(message) == 2 for message in messages)
    hashes = [hash(m["content"] if plain else msgspec.json.encode(m, order="deterministic")) for m in messages]
    return hash_row(hashes, [ROLES.index(message["role"]) for message in messages])


def _role_hint(role: str) -> str:
    known = OTHER_ROLES.get(role.strip().lower()) or (role.strip().lower() if role.strip().lower() in ROLES else None)
    if known:
        return f"Write `{known}`."
    return did_you_mean(role, ROLES, f"Use one of: {', '.join(ROLES)}.")
