"""What a model can be asked: the messages of a conversation, and how long an answer may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from azft.errors import UsageError

_EXAMPLE = '[{"role": "user", "content": "When are you open?"}]'


def require_conversation(messages: object, *, max_new_tokens: int) -> list[dict[str, Any]]:
    """The messages as a list. Raises `UsageError` where they are no conversation, or no answer is wanted."""
    if max_new_tokens < 1:
        raise UsageError(f"An answer has at least one token: max_new_tokens is {max_new_tokens}.")
    given = list(messages) if isinstance(messages, Iterable) and not isinstance(messages, str | Mapping) else []
    turns = [dict(message) for message in given if isinstance(message, Mapping) and {"role", "content"} <= set(message)]
    if not turns or len(turns) < len(given):
        raise UsageError("A conversation is a list of messages, each with role and content.", fix=f"Like {_EXAMPLE}")
    return turns
