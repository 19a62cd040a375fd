"""The preview shows the text that is trained on, split exactly where the loss begins and ends."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from azft.data.preview import preview
from azft.data.tokenizer import load_tokenizer
from azft.recipe_file import RecipeFile, load_recipe
from tests.helpers.tokens import tokenizer_folder

ROWS = [
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": " Hello\n"}],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello", "weight": 0},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": "Bye"},
    ],
    [{"role": "user", "content": "say <|end|>"}, {"role": "assistant", "content": "no"}],
    [{"role": "user", "content": "4"}, {"role": "assistant", "content": "four"}],
]


@pytest.fixture
def recipe(tmp_path: Path) -> RecipeFile:
    (tmp_path / "train.jsonl").write_bytes(b"".join(orjson.dumps({"messages": row}) + b"\n" for row in ROWS))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: x\ntask: chat-completion\nmodel: tiny\ndata: {train: train.jsonl}\ntraining: {max_length: 64}\n"
    )
    return load_recipe(path)


def test_segments_join_to_the_rendered_text_and_show_the_loss(recipe: RecipeFile, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_folder(tmp_path / "model", "phi-4-mini"))
    report = preview(recipe, tokenizer, rows=3)
    assert [row.line for row in report.rows] == [1, 2, 3]
    first, second, third = report.rows
    assert [(s.text, s.in_loss) for s in first.segments] == [
        ("<|user|>Hi<|end|><|assistant|>", False),
        (" Hello\n<|end|>", True),
        ("<|endoftext|>", False),
    ]
    assert first.tokens == len(tokenizer.encode("".join(s.text for s in first.segments)))
    assert first.loss_tokens == len(tokenizer.encode(" Hello\n<|end|>"))
    assert [s.text for s in second.segments if s.in_loss] == ["Bye<|end|>"]
    assert third.problem is not None
    assert (third.problem.code, third.problem.where) == ("data-special-token", "train.jsonl:3")
    assert report.tokens == first.tokens + second.tokens
    assert report.max_length == 64
    assert orjson.loads(orjson.dumps(report.to_dict()))["rows"][2]["problem"]["line"] == 3


def test_fewer_rows_than_asked_for_are_all_shown(recipe: RecipeFile, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_folder(tmp_path / "model", "phi-4-mini"))
    assert len(preview(recipe, tokenizer, rows=99).rows) == 4
