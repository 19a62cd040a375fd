"""Saying why a text is not JSON, in words that name the usual cause."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from azft.data.rules import Problem

_LONE_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*("  # not itself escaped
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"  # a first half without a second
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2})"  # a second without a first
)
_BIG_EXPONENT = "out of range"
_DUPLICATE_KEYS_UP_TO = 1 << 20
"""Longest row, in bytes, that is read a second time to look for a key given twice."""


def decode(raw: bytes) -> tuple[Any, Problem | None]:
    """The value of a JSON text, or the problem with it. Never raises, whatever the bytes."""
    try:
        return msgspec.json.decode(raw), None
    except RecursionError:
        return None, Problem("too-deep")
    except ValueError as error:
        return None, _fault(raw, error)


def _fault(raw: bytes, error: ValueError) -> Problem:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as bad:
        return Problem("not-utf8", {"byte": bad.start + 1, "value": f"0x{raw[bad.start]:02X}"})
    message = str(error)
    half = any(word in message for word in ("surrogate", "truncated", "malformed"))
    if half and (match := _LONE_SURROGATE.search(raw)):
        return Problem("lone-surrogate", {"escape": match.group(1).decode("ascii")})
    if _BIG_EXPONENT in message:
        return Problem("number-range")
    reason, fix = _explain(text.strip(), message)
    return Problem("not-json", {"reason": reason, "fix": fix})


def _explain(text: str, message: str) -> tuple[str, str]:
    """What is wrong and what to do. The first guesses are those that people's files really show."""
    if re.match(r"[{\[]\s*'", text):
        return "keys and texts are in single quotes", "This is Python's notation; write rows with json.dumps."
    if text.startswith("<"):
        return "it begins like HTML or XML", "Was an error page saved in place of the data?"
    if text.startswith("version https://git-lfs"):
        return "it is a Git LFS pointer", "Fetch the file itself: git lfs pull"
    try:
        json.loads(text)
    except RecursionError:
        return "nested too deeply", "Flatten the row."
    except json.JSONDecodeError as error:
        position, what = error.pos, error.msg
    except ValueError:  # Python refuses to convert integers of many thousands of digits
        return "a number has too many digits", "Write it as text, in quotes."
    else:
        # Python's reader is laxer than the standard: NaN and Infinity are the difference.
        word = re.search(r"\b(NaN|-?Infinity)\b", text)
        return f"{word.group() if word else message} is not a JSON value", "Write null, or leave the key out."
    at = f"at column {position + 1}"
    if what == "Extra data":
        return f"there is more after the end of the row, {at}", "Each row stands on a line of its own."
    if position >= len(text) or what.startswith("Unterminated string"):
        return "it ends too early", "Was it cut off? A row stands on one line; write line breaks in a text as \\n."
    if word := re.match(r"None|True|False|NaN|undefined", text[position:]):
        return f"`{word.group()}` {at} is not a JSON value", "JSON has null, true and false."
    if what.startswith("Invalid control character"):
        return f"a raw control character in a text {at}", "Write tabs as \\t and line breaks as \\n."
    if what.startswith("Invalid \\"):
        return f"an unknown escape {at}", "Write a backslash as \\\\."
    return f"{what[:1].lower()}{what[1:]} {at}", "Write rows with a JSON library, not by hand."


def duplicate_key(raw: bytes) -> str | None:
    """The first key that stands twice in one object of a valid JSON text; None for long texts: not read again."""
    if len(raw) > _DUPLICATE_KEYS_UP_TO:
        return None
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            found.extend(key for key in keys if keys.count(key) > 1)

    try:
        json.loads(raw, object_pairs_hook=look)
    except (ValueError, RecursionError):
        return None
    return found[0] if found else None
