"""What is no conversation is refused before a model or an endpoint is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from azft.asking import require_conversation
from azft.chat import Chat
from azft.errors import UsageError

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    "messages", ["Hello", [], ["Hello"], HELLO[0], [{"role": "user"}], [{"content": "Hello"}], [*HELLO, 5], None, 5]
)
def test_what_is_no_conversation_is_refused_with_an_example(messages: Any) -> None:
    with pytest.raises(UsageError, match="a list of messages") as raised:
        require_conversation(messages, max_new_tokens=5)
    assert '{"role": "user"' in raised.value.fix


@pytest.mark.parametrize("messages", [HELLO, tuple(HELLO), iter(HELLO)])
def test_messages_may_come_in_any_sequence(messages: Any) -> None:
    assert require_conversation(messages, max_new_tokens=1) == HELLO


@pytest.mark.parametrize("length", [0, -1])
def test_an_answer_has_at_least_one_token(length: int) -> None:
    with pytest.raises(UsageError, match=f"max_new_tokens is {length}"):
        require_conversation(HELLO, max_new_tokens=length)


def test_a_chat_refuses_at_once_and_not_at_the_first_piece() -> None:
    chat = Chat(Path("model"), model=None)
    with pytest.raises(UsageError, match="a list of messages"):
        chat.reply("Hello")  # type: ignore[arg-type]
