"""`azft chat`: once and in conversation, with a model that repeats what it hears."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.helpers.terminal import ROOT, Result, azft, azft_at_terminal

SITE = """
import azft.chat
class Parrot:
    reads = ()
    def reply(self, messages, *, max_new_tokens, temperature):
        said = [m["content"] for m in messages if m["role"] != "assistant"]
        for word in (" | ".join(said) + "\\x1b[31m").split()[:max_new_tokens]:
            yield word + " "
class Judge(Parrot):
    reads = ("text", "text_pair")
    def reply(self, messages, **settings):
        yield self.ask(row_of(messages[-1]["content"], self.reads)).text
    def ask(self, row, **settings):
        checked_row(row, self.reads)
        return label_answer("\\x1b[31mlong" if len(row["text"]) > 5 else "short", 0.75)
from azft.asking import checked_row, label_answer, row_of
def open_chat(what):
    return azft.chat.Chat(what, Judge() if what.name == "judge" else Parrot(), "This model is a stand-in.")
azft.chat.open_chat = open_chat
"""


class Shell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "sitecustomize.py").write_text(SITE)
        (folder / "model").mkdir()
        (folder / "judge").mkdir()
        self.env = {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}

    def chat(self, *args: str, stdin: str | None = None, model: str = "./model") -> Result:
        return azft("chat", model, *args, cwd=self.folder, stdin=stdin, **self.env)

    def converse(self, typed: str, *args: str) -> Result:
        return azft_at_terminal("chat", "./model", *args, cwd=self.folder, typed=typed, **self.env)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_prompt_is_answered_once_and_the_note_is_no_part_of_the_answer(shell: Shell) -> None:
    result = shell.chat("--prompt", "hello there")
    assert result.code == 0
    assert result.out == "hello there\\x1b[31m \n"
    assert result.err == "This model is a stand-in.\n"


def test_the_system_turn_comes_first_and_the_answer_is_cut_at_max_tokens(shell: Shell) -> None:
    assert shell.chat("--system", "be kind", "--prompt", "hi", "--max-tokens", "2").out == "be kind \n"


def test_a_prompt_can_come_from_a_pipe(shell: Shell) -> None:
    assert shell.chat("--prompt", "-", stdin="from a file").out.startswith("from a file")


def test_json_has_the_whole_conversation(shell: Shell) -> None:
    data = json.loads(shell.chat("--prompt", "hi", "-o", "json").out)
    assert data["answer"] == "hi\x1b[31m "
    assert [message["role"] for message in data["messages"]] == ["user", "assistant"]


def test_a_conversation_remembers_and_an_empty_line_ends_it(shell: Shell) -> None:
    result = shell.converse("one\ntwo\n\n")
    assert result.code == 0
    assert "one | two" in result.plain
    assert "\x1b[31m" not in result.out


def test_the_end_of_input_ends_it_too(shell: Shell) -> None:
    assert shell.converse("one\n\x04").code == 0


def test_without_a_terminal_the_error_names_the_option(shell: Shell) -> None:
    result = shell.chat()
    assert result.code == 2
    assert "--prompt" in result.err


def test_a_model_that_tells_about_texts_is_asked_the_same_way_or_with_a_row(shell: Shell) -> None:
    assert shell.chat("--prompt", "hi", model="./judge").out == "short (0.750)\n"
    assert shell.chat("--row", '{"text": "hello you"}', model="./judge").out == "\\x1b[31mlong (0.750)\n"
    assert shell.chat("--row", "-", stdin='{"text": "hi"}', model="./judge").out == "short (0.750)\n"
    by_prompt = json.loads(shell.chat("--prompt", "hi", "-o", "json", model="./judge").out)
    by_row = json.loads(shell.chat("--row", '{"text": "hi"}', "-o", "json", model="./judge").out)
    assert by_prompt["answer"] == by_row["answer"] == "short (0.750)"
    assert by_prompt["told"] == by_row["told"] == {"label": "short", "score": 0.75}
    assert by_row["row"] == {"text": "hi"}


@pytest.mark.parametrize(
    ("args", "model", "words"),
    [
        (("--row", "{"), "./judge", "--row is no JSON"),
        (("--row", '{"txet": "hi"}'), "./judge", "not asked with txet"),
        (("--row", "{}", "--prompt", "hi"), "./judge", "either --prompt or --row"),
        (("--row", '{"text": "hi"}'), "./model", "in conversation, not with a row"),
    ],
)
def test_rows_that_cant_be_asked_say_why(shell: Shell, args: tuple[str, ...], model: str, words: str) -> None:
    result = shell.chat(*args, model=model)
    assert result.code == 2
    assert words in result.err
