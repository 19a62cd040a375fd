"""Rows of a prompt and an answer that are too long (data.long_rows: truncate): the prompt's text gives way.

Held against tokens that are dropped by hand, one after the other, from what the tokenizer itself says lies in a value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from azft.data.check import check_data
from azft.data.dataset import open_dataset
from azft.data.documents import Counts, LongRows, Piece
from azft.data.prepare import prepare
from azft.data.prompts import fill
from azft.data.renderers import Rendering, renderer_for
from azft.data.rendering import Renderer
from azft.data.tokenizer import ModelTokenizer, load_tokenizer
from azft.parameters import PrepareParameters
from azft.recipe import Recipe
from azft.recipe_file import RecipeFile
from azft.tasks import TASKS
from tests.helpers.tokens import tokenizer_folder

CHAT = ("phi-3", "phi-4-mini", "llama-3", "qwen-2.5", "mistral-v1", "mistral-system-last", "gemma")
MODELS = (*CHAT, "plain", "plain-bos", "t5")
DOCUMENT = "  There were 12 apples, and the quick brown fox ate 5 of them; über 7 were left 🍎.\n\nHe was fine.  "
ANSWER = "7 apples are left."
QUESTION = "How many apples are left, when the fox has eaten what it could?"
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "summarization": ({"document": DOCUMENT, "summary": ANSWER}, "document"),
    "translation": ({"source": DOCUMENT, "target": ANSWER}, "source"),
    "question-answering": ({"question": QUESTION, "context": DOCUMENT, "answers": [ANSWER]}, "context"),
    "music-generation": ({"prompt": DOCUMENT, "completion": ANSWER}, "prompt"),
    "svg-generation": ({"prompt": DOCUMENT, "completion": ANSWER}, "prompt"),
}


def folder_of(model: str, folder: Path) -> Path:
    """A model folder: a family with its template, a model without one, or one like T5."""
    family = {"plain": "chatml", "plain-bos": "mistral-v1", "t5": "mistral-v1"}.get(model, model)
    tokenizer_folder(folder, family)
    if model not in CHAT:
        (folder / "chat_template.jinja").unlink()
    if model in ("plain-bos", "t5"):
        backend = load_tokenizer(folder).backend
        mark, single = ("</s>", "$A </s>") if model == "t5" else ("<s>", "<s> $A")
        backend.post_processor = TemplateProcessing(single=single, special_tokens=[(mark, backend.token_to_id(mark))])
        backend.save(str(folder / "tokenizer.json"))
    if model == "t5":
        (folder / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    return folder


@cache
def tokenizer_of(model: str) -> ModelTokenizer:
    return load_tokenizer(folder_of(model, Path(mkdtemp()) / model))


def renderer_of(task: str, model: str, prompt: str | None = None) -> Renderer:
    return renderer_for(task, tokenizer_of(model), Rendering(prompt))


def documents(
    renderer: Renderer, row: dict[str, Any], limit: int, way: LongRows = "truncate"
) -> tuple[list[Piece], Counts]:
    counts = Counts()
    return list(renderer.documents(renderer.render(row), limit, way, counts)), counts


def by_hand(renderer: Renderer, row: dict[str, Any], value: str, limit: int, *, first: bool = False) -> list[int]:
    """The row's tokens without the last (or first) ones that lie in `value`, as many as are too many; [] if too few."""
    ids = list(renderer.render(row).token_ids)
    backend, text = renderer.tokenizer.backend, renderer.text(row)
    if renderer.objective == "sequence-to-sequence":
        offsets = backend.encode(text.source, add_special_tokens=True).offsets  # type: ignore[attr-defined]
        start = text.source.index(value)  # type: ignore[attr-defined]
    else:
        offsets, start = backend.encode(text.text, add_special_tokens=False).offsets, text.text.index(value)
    inside = [n for n, (a, b) in enumerate(offsets) if a < b and start <= a and b <= start + len(value)]
    while len(ids) > limit:
        if len(inside) == 1:
            return []
        del ids[inside[0] if first else inside.pop()]
        inside = inside[:-1] if first else inside
    return ids


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("task", ROWS)
def test_a_long_prompt_loses_the_end_of_its_longest_value_and_nothing_else(task: str, model: str) -> None:
    renderer = renderer_of(task, model)
    row, column = ROWS[task]
    value = row[column]
    if model in CHAT and column == "prompt":  # which begins the turn: templates may trim it, so its beginning stays
        value = value.lstrip()
    if value not in renderer.text(row).text:  # the template trims it
        value = value.rstrip()
    rendered = renderer.render(row)
    whole, learned = len(rendered.token_ids), [rendered.token_ids[n] for n in rendered.loss_mask.nonzero()[0]]
    kept = 0
    for limit in range(whole, 8, -1):
        expected = by_hand(renderer, row, value, limit)
        pieces, counts = documents(renderer, row, limit)
        assert [piece.token_ids.tolist() for piece in pieces] == ([expected] if expected else [])
        assert (counts.rows, counts.long_rows) == (1, limit < whole)
        assert (counts.documents, counts.dropped_long, counts.dropped_unlabelled) == (
            (1, 0, 0) if expected else (0, 1, 0)
        )
        for piece in pieces:
            kept += limit < whole
            assert piece.token_ids[piece.loss_mask].tolist() == learned
            assert piece.references == (ANSWER,)  # asked with what a sequence has room for, as it would be when served
    assert kept > 20


@pytest.mark.parametrize("model", CHAT)
def test_what_the_template_writes_before_the_answer_stays(model: str) -> None:
    renderer = renderer_of("summarization", model)
    row = ROWS["summarization"][0]
    rendered = renderer.render(row)
    [piece], _ = documents(renderer, row, len(rendered.token_ids) - 20)
    text = "".join(renderer.tokenizer.decode(piece.token_ids.tolist()).split())  # Phi-3's markers swallow white space
    whole = "".join(renderer.text(row).text.split())
    assert text.endswith(whole[whole.rindex("fine.") + len("fine.") :])
    assert text.startswith(whole[: whole.index("Therewere")])


@pytest.mark.parametrize("model", ["llama-3", "plain", "t5"])
def test_a_question_is_never_cut(model: str) -> None:
    renderer = renderer_of("question-answering", model)
    row = {"question": QUESTION, "answers": [ANSWER]}
    pieces, counts = documents(renderer, row, len(renderer.render(row).token_ids) - 1)
    assert (pieces, counts.dropped_long) == ([], 1)
    row["context"] = "apple " * 9
    assert len(row["context"]) < len(QUESTION)
    [piece], _ = documents(renderer, row, len(renderer.render(row).token_ids) - 2)
    assert QUESTION in renderer.tokenizer.decode(piece.token_ids.tolist())


@pytest.mark.parametrize("model", MODELS[:-1])
def test_a_completion_follows_the_end_of_its_prompt_so_the_beginning_goes(model: str) -> None:
    renderer = renderer_of("text-generation", model)
    row = {"prompt": DOCUMENT, "completion": ANSWER}
    rendered = renderer.render(row)
    for limit in range(len(rendered.token_ids), 8, -1):
        expected = by_hand(renderer, row, DOCUMENT, limit, first=True)
        pieces, _ = documents(renderer, row, limit)
        assert [piece.token_ids.tolist() for piece in pieces] == ([expected] if expected else [])
    opening = len(rendered.token_ids) - len(renderer.tokenizer.encode(DOCUMENT + ANSWER)) - 1
    [piece], _ = documents(renderer, row, len(rendered.token_ids) - 9)
    assert piece.token_ids[:opening].tolist() == rendered.token_ids[:opening]  # a token that begins every text


def test_texts_and_chats_lose_their_end_as_ever() -> None:
    chat = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": DOCUMENT}]
    rows: dict[str, dict[str, Any]] = {"text-generation": {"text": DOCUMENT}, "chat-completion": {"messages": chat}}
    for task, row in rows.items():
        renderer = renderer_of(task, "phi-4-mini")
        [piece], counts = documents(renderer, row, 30)
        assert piece.token_ids.tolist() == renderer.render(row).token_ids[:30]
        assert counts.dropped_long == 0


@pytest.mark.parametrize("model", ["phi-4-mini", "plain"])
def test_other_ways_with_long_rows_are_what_they_were(model: str) -> None:
    renderer = renderer_of("summarization", model)
    row = ROWS["summarization"][0]
    ids = renderer.render(row).token_ids
    for way in ("drop", "error"):
        assert documents(renderer, row, 40, way)[0] == []
    pieces, counts = documents(renderer, row, 40, "split")
    assert pieces[-1].token_ids.tolist() == ids[39 * ((len(ids) - 2) // 39) :]
    assert all(piece.references == () for piece in pieces)
    assert (counts.long_rows, counts.dropped_long) == (1, 0)


@pytest.mark.parametrize(
    ("prompt", "row", "spare"),
    [
        ("Say {a} of {b}.", {"a": "xx", "b": "yyy"}, "yyy"),
        ("{a}\n{b}", {"a": "\nxx\n"}, "xx"),
        ("{b}{a}", {"a": "xxx", "b": ""}, "xxx"),
        ("{a}: {whole}", {"a": "x", "whole": "longer"}, "x"),
        ("{whole}", {"whole": "longer"}, ""),
        ("Nothing.", {}, ""),
    ],
)
def test_where_the_longest_value_stands(prompt: str, row: dict[str, str], spare: str) -> None:
    filled = fill(prompt, row, whole=("whole",))
    assert filled.text[filled.spare.start : filled.spare.end].strip("\n") == spare


def halves_of(renderer: Renderer, row: dict[str, Any]) -> list[list[int]]:
    ids, border = renderer.render(row).token_ids, renderer.render(row).border  # type: ignore[attr-defined]
    return [ids[:border], ids[border:]]


@pytest.mark.parametrize("model", CHAT)
def test_a_pair_keeps_both_answers_to_one_prompt(model: str) -> None:
    renderer = renderer_of("preference-tuning", model)
    row = {
        "prompt": [{"role": "user", "content": DOCUMENT}],
        "chosen": ANSWER,
        "rejected": "I am fine, thank you. " * 2,
    }
    chosen, rejected = halves_of(renderer, row)
    assert len(rejected) > len(chosen)
    pieces, counts = documents(renderer, row, len(rejected) - 10)
    assert [len(piece.token_ids) for piece in pieces] == [len(chosen) - 10, len(rejected) - 10]
    learned = [piece.token_ids[piece.loss_mask].tolist() for piece in pieces]
    full, _ = documents(renderer, row, 10_000)
    assert learned == [piece.token_ids[piece.loss_mask].tolist() for piece in full]
    prompts = [piece.token_ids[: piece.loss_mask.argmax()].tolist() for piece in pieces]
    assert prompts[0] == prompts[1]
    assert (counts.long_rows, counts.documents) == (1, 2)
    pieces, counts = documents(renderer, row, len(rejected) // 3)
    assert (pieces, counts.dropped_long) == ([], 1)
    asked = [*row["prompt"], {"role": "assistant", "content": "What?"}, {"role": "user", "content": "So?"}]
    pieces, counts = documents(renderer, {**row, "prompt": asked}, len(rejected) - 10)
    assert (pieces, counts.dropped_long) == ([], 1)  # the last turn is what is answered, and it is short


WORDS = st.text(st.sampled_from("abcdeß 🍎.\n,TheQu12"), min_size=1, max_size=120).filter(str.strip)


@settings(deadline=None, max_examples=120)
@given(
    model=st.sampled_from(MODELS), task=st.sampled_from(list(ROWS)), document=WORDS, answer=WORDS, question=WORDS,
    limit=st.integers(8, 120),
)  # fmt: skip
def test_what_is_learned_is_that_of_the_whole_row(
    model: str, task: str, document: str, answer: str, question: str, limit: int
) -> None:
    row, column = ROWS[task]
    row = {**row, column: document, str(TASKS[task].target): answer}
    row |= {"question": question} if "question" in row else {}
    renderer = renderer_of(task, model)
    rendered = renderer.render(row)
    learned = [rendered.token_ids[n] for n in rendered.loss_mask.nonzero()[0]]
    pieces, counts = documents(renderer, row, limit)
    assert len(pieces) == 1 - counts.dropped_long
    for piece in pieces:
        assert len(piece.token_ids) <= limit
        assert len(piece.token_ids) == min(limit, len(rendered.token_ids))
        assert piece.token_ids[piece.loss_mask].tolist() == learned


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[Path, list[str]]]:
    def run(task: str, model: str, rows: list[dict[str, Any]], **data: Any) -> tuple[Path, list[str]]:
        paths = [tmp_path / "t.jsonl", tmp_path / "v.jsonl"]
        for path, some in zip(paths, (rows, rows[:1]), strict=True):
            path.write_text("".join(json.dumps(row) + "\n" for row in some))
        values = {
            "name": "x",
            "task": task,
            "model": "m",
            "data": {"train": "t.jsonl", "validation": "v.jsonl", **data},
        }
        recipe = Recipe.model_validate(values | {"training": {"max_length": 64, "packing": False}})
        lines: list[str] = []
        prepare(
            PrepareParameters.of(recipe), model=folder_of(model, tmp_path / "m"), train=paths[0], validation=paths[1],
            output=tmp_path / "d", progress=lines.append,
        )  # fmt: skip
        return tmp_path / "d", lines

    return run


def test_the_prepare_step_cuts_prompts_and_says_so(make: Callable[..., tuple[Path, list[str]]]) -> None:
    rows = [{"document": f"{n} apples " * (3 if n < 8 else 40), "summary": f"Apples, {n}."} for n in range(10)]
    rows += [{"document": "An apple.", "summary": "apple pie " * 60}]
    output, lines = make("summarization", "phi-4-mini", rows, long_rows="truncate")
    dataset = open_dataset(output, "train")
    assert (len(dataset), dataset.sequence_lengths.max()) == (10, 64)
    said = next(line for line in lines if "3 of 11 rows for train have more than 64 tokens" in line)
    assert "cut in the prompt, but 1 left out" in said
    assert any("11 rows (1 too long, left out)" in line for line in lines)


@pytest.mark.parametrize(
    ("task", "row", "said"),
    [
        ("summarization", ROWS["summarization"][0], "it is cut in the prompt."),
        ("text-generation", {"text": "word"}, "it is cut off at the end, or in the prompt where it has one."),
        ("preference-tuning", {"prompt": "a", "chosen": "b", "rejected": "c"}, "it is cut in the prompt."),
    ],
)
def test_the_data_check_says_where_a_row_is_cut(task: str, row: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n")
    data = {"train": str(tmp_path / "t.jsonl"), "long_rows": "truncate"}
    values = {"name": "x", "task": task, "model": "m", "data": data, "training": {"max_length": 16}}
    read = RecipeFile(Recipe.model_validate(values), tmp_path / "recipe.yaml", {})
    report = check_data(read, near_duplicates=False, lengths=lambda rows: [99] * len(rows))
    (long,) = (finding.message for finding in report.findings if finding.code == "data-long-row")
    assert long.endswith(said)
