"""Rows of text and of columns that make a prompt: what is checked, what is learned, and which names are guessed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from azft.data.check import check_files
from azft.data.column_names import guess_columns, resolve_columns
from azft.data.documents import Counts
from azft.data.lane import RowText
from azft.data.prompts import PromptRenderer, fill
from azft.data.renderers import renderer_for
from azft.data.rows import RowChecker
from azft.data.template_probe import RefusalError
from azft.data.text_rendering import TextRenderer
from azft.data.tokenizer import ModelTokenizer, load_tokenizer
from azft.tasks import Column, Task
from tests.helpers.tokens import tokenizer_folder

ASK = Task(
    name="ask",
    title="",
    columns=(
        Column("context", "text", "", required=False),
        Column("question", "text", ""),
        Column("answer", "text", ""),
    ),
    rendering="prompt",
    metrics=(),
    target="answer",
    prompt="{context}\n\nQuestion: {question}",
)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> ModelTokenizer:
    return load_tokenizer(tokenizer_folder(tmp_path / "model"))


@pytest.fixture
def plain(tmp_path: Path) -> ModelTokenizer:
    folder = tokenizer_folder(tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    return load_tokenizer(folder)


def learned(renderer: Any, row: dict[str, Any]) -> str:
    rendered = renderer.render(row)
    ids = [token for token, counts in zip(rendered.token_ids, rendered.loss_mask, strict=True) if counts]
    return str(renderer.tokenizer.decode(ids))


def test_a_text_is_learned_whole_and_so_is_its_end(tokenizer: ModelTokenizer) -> None:
    renderer = renderer_for("text-generation", tokenizer)
    assert learned(renderer, {"text": "Once upon a time."}) == "Once upon a time." + renderer.stop


def test_of_a_prompt_and_its_completion_only_the_completion_is_learned(tokenizer: ModelTokenizer) -> None:
    renderer = renderer_for("text-generation", tokenizer)
    row = {"prompt": "The capital of France:", "completion": " Paris"}
    assert learned(renderer, row) == " Paris" + renderer.stop
    assert renderer.text(row).text == "The capital of France: Paris" + renderer.stop


def test_texts_that_hold_the_end_of_text_token_are_refused(tokenizer: ModelTokenizer) -> None:
    renderer = TextRenderer(tokenizer)
    with pytest.raises(RefusalError, match="reads as a marker"):
        renderer.text({"text": f"an end {renderer.stop} in the middle"})


def test_a_model_without_an_end_of_text_token_is_refused(tmp_path: Path) -> None:
    folder = tokenizer_folder(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(RefusalError, match="no end-of-text token"):
        TextRenderer(load_tokenizer(folder))


def test_a_chat_model_is_asked_through_its_template_and_any_other_as_text(
    tokenizer: ModelTokenizer, plain: ModelTokenizer
) -> None:
    row = {"question": "Who bakes?", "answer": "Linden does."}
    chat, text = PromptRenderer(tokenizer, ASK, None), PromptRenderer(plain, ASK, None)
    said = [{"role": "user", "content": "Question: Who bakes?"}, {"role": "assistant", "content": "Linden does."}]
    in_chat = renderer_for("chat-completion", tokenizer).text({"messages": said})
    assert replace(chat.text(row), spare=None) == replace(in_chat, references=("Linden does.",))
    assert text.text(row).text == "Question: Who bakes?\nLinden does." + text.stop
    assert learned(chat, row) == learned(text, row).replace(text.stop, chat.stop)


def test_a_prompt_is_filled_with_values_as_they_stand_and_loses_lines_without_one() -> None:
    row = {"question": "{context} and \\1?", "answer": ""}
    assert fill(ASK.prompt, row).text == "Question: {context} and \\1?"
    assert fill("{context}: {question}", {"context": "A", "question": "B"}).text == "A: B"
    assert fill("Answers: {answers}", {"answers": ["first", "second"]}).text == "Answers: first"


def test_a_row_must_have_one_of_the_tasks_forms(tmp_path: Path) -> None:
    rows = [{"text": "a b"}, {"prompt": "a", "completion": "b"}, {"prompt": "a"}, {"text": " "}, {"text": 1}]
    report = check_files("text-generation", {}, {"train": write(tmp_path / "t.jsonl", *rows)})
    found = {(f.code, f.line) for f in report.findings if f.severity.name == "ERROR"}
    assert found == {("data-missing-column", 3), ("data-empty-text", 4), ("data-wrong-type", 5)}


def test_prompts_with_two_answers_and_rows_that_come_twice_are_told_apart(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "c"}, {"prompt": "a", "completion": "b"}]
    report = check_files(
        "text-generation", {}, {"train": write(tmp_path / "t.jsonl", *rows, {"text": "a"})}, near=False
    )
    found = {(f.code, f.line) for f in report.findings if f.line}
    assert found == {("data-conflicting-answers", 2), ("data-duplicate-row", 3)}


def test_near_duplicates_are_compared_by_prompt_and_answer() -> None:
    checker = RowChecker("text-generation", {})
    assert checker.text({"prompt": "a", "completion": "b"}) == RowText("", "a", "b")
    assert checker.text({"text": "a"}) == RowText("", "", "a")
    row = {"question": "a", "context": "b", "answers": [["c", 0]]}
    assert RowChecker("question-answering", {}).text(row) == RowText("", "a", "c", "b")


@pytest.mark.parametrize(
    ("columns", "given", "guess"),
    [
        ({}, ["input", "output"], {"prompt": "input", "completion": "output"}),
        ({}, ["prompt", "ground_truth"], {"completion": "ground_truth"}),
        ({}, ["document", "id"], {"text": "document"}),
        ({}, ["input", "instruction", "output"], {}),  # which of the two is the prompt?
        ({}, ["input"], {}),  # no form is whole
        ({}, ["text", "output"], {}),  # it has a form under its own name
        ({"prompt": "question"}, ["input", "question", "output"], {"completion": "output"}),
    ],
)
def test_columns_are_guessed_where_one_guess_is_possible(
    columns: dict[str, str], given: list[str], guess: dict[str, str]
) -> None:
    assert guess_columns("text-generation", columns, given) == guess


def test_a_guess_is_said(tmp_path: Path) -> None:
    file = write(tmp_path / "train.jsonl", {"input": "a", "output": "b"})
    columns, findings = resolve_columns("text-generation", {}, file)
    assert columns == {"prompt": "input", "completion": "output"}
    assert [finding.code for finding in findings] == ["data-columns-guessed"]
    assert "prompt: input, completion: output" in findings[0].message


SQUAD = {"question": "Where?", "context": "It is in Paris. Paris!", "answers": {"text": ["Paris"], "answer_start": [9]}}


@pytest.mark.parametrize(
    ("answers", "codes"),
    [
        ({"text": ["Paris", "Paris!"], "answer_start": [9, 16]}, []),
        ({"text": [], "answer_start": []}, []),
        (["Paris", "in Paris"], []),
        ("Paris", []),
        ({"text": ["Paris"], "answer_start": [8]}, ["answer-elsewhere"]),
        ({"text": ["Paris"], "answer_start": [9, 16]}, ["answer-starts"]),
        ({"text": ["Paris"], "answer_start": ["9"]}, ["answer-starts"]),
        ({"text": [" "], "answer_start": [5]}, ["empty-text"]),
        ({"answer": "Paris"}, ["wrong-type"]),
        ([9], ["wrong-type"]),
        (9, ["wrong-type"]),
    ],
)
def test_answers_are_checked_as_squad_writes_them(answers: Any, codes: list[str]) -> None:
    problems, _ = RowChecker("question-answering", {}).check({**SQUAD, "answers": answers}, text_cells=False)
    assert [problem.code for problem in problems] == codes


def test_the_first_answer_is_learned_and_each_of_them_is_right(plain: ModelTokenizer) -> None:
    checker = RowChecker("question-answering", {})
    renderer = renderer_for("question-answering", plain)
    _, row = checker.check({"question": "Where?", "answers": ["Paris", "in Paris"]}, text_cells=False)
    assert row is not None
    rendered = renderer.render(row)
    assert rendered.text == "Question: Where?\nAnswer:\nParis<|im_end|>"
    assert rendered.references == ("Paris", "in Paris")
    _, nothing = checker.check({**SQUAD, "answers": {"text": [], "answer_start": []}}, text_cells=False)
    assert nothing is not None
    assert learned(renderer, nothing) == "<|im_end|>"
    assert renderer.render(nothing).references == ("",)


def test_references_are_kept_only_where_the_prompt_is_whole(plain: ModelTokenizer) -> None:
    renderer = renderer_for("translation", plain)
    rendered = renderer.render({"source": "Good morning", "target": "Guten Morgen"})
    [whole] = renderer.documents(rendered, rendered.longest, "split", Counts())
    assert whole.references == ("Guten Morgen",)
    parts = list(renderer.documents(rendered, rendered.longest - 1, "split", Counts()))
    assert parts
    assert not any(part.references for part in parts)


@pytest.mark.parametrize(
    ("columns", "fix"),
    [
        ({}, "Name it `source`, or say its name in the recipe: data.columns: {source: ...}."),
        ({"source": "englsh"}, "The recipe calls it so; correct it there: data.columns: {source: english}."),
        ({"target": "german"}, "Take `target` out of data.columns: the row has it under its own name."),
    ],
)
def test_a_column_that_the_recipe_calls_wrongly_is_corrected_there(columns: dict[str, str], fix: str) -> None:
    given = {"english": "Yes", "target": "Ja"} if columns.keys() != {"target"} else {"source": "Yes", "target": "Ja"}
    problems, row = RowChecker("translation", columns).check(given)
    (missing,) = [problem for problem in problems if problem.code == "missing-column"]
    assert row is None
    assert missing.values["fix"] == fix
