"""Passing over rows of a known shape finds the same refusals as rendering every row."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from azft.data.check import check_files
from azft.data.masking import ChatRenderer
from azft.data.template_trial import TemplateTrial
from azft.data.tokenizer import load_tokenizer
from azft.errors import AzftError
from tests.helpers.tokens import FAMILIES, tokenizer_folder

ROLES = (
    ["user", "assistant"],
    ["system", "user", "assistant"],
    ["user", "assistant", "user", "assistant"],
    ["system", "user", "assistant", "user", "assistant"],
)
PIECES = (
    "yes", "no and no",
    'he said "role": "user"', "a\nb", "back\\slash", "ünïcode", "null", "x <b>y</b>", "<|end|>", "<s>",
    "[INST]", "[/INST]", "<|im_end|>", "</think>", "<think>", "tail n", "ends with t", "1 < 2", "<end_of_turn>", "</s>",
)  # fmt: skip
ENDS = ("", "", "", " ", "\n", "\t", "\u00a0", "\u2003", "\n\n")


def random_row(rng: random.Random) -> dict[str, Any]:
    def text() -> str:
        return rng.choice(ENDS) + " ".join(rng.choices(PIECES, k=rng.choice([1, 1, 2]))) + rng.choice(ENDS)

    messages: list[dict[str, Any]] = [{"role": role, "content": text()} for role in rng.choice(ROLES)]
    if rng.random() < 0.1:
        messages[-1]["weight"] = 1
    row: dict[str, Any] = {"messages": messages}
    if rng.random() < 0.1:
        row["id"] = "17"
    return row


def refused(renderer: ChatRenderer, row: dict[str, Any]) -> bool:
    try:
        renderer.text(row)
    except AzftError:
        return True
    return False


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_rows_are_refused_as_when_every_row_is_rendered(family: str, tmp_path: Path) -> None:
    renderer = ChatRenderer(load_tokenizer(tokenizer_folder(tmp_path / "model", family)))
    rng = random.Random(family)
    rows = [random_row(rng) for _ in range(1500)]
    trial = TemplateTrial(renderer.text, renderer.control_texts)
    rendered, missed = 0, []
    for row in rows:
        for line in (orjson.dumps(row), orjson.dumps(row, option=orjson.OPT_INDENT_2).replace(b"\n", b" ")):
            shape = trial.shape_of(line)
            if trial.is_known(shape):
                if refused(renderer, row):
                    missed.append(row)
            else:
                rendered += 1
                if not refused(renderer, row):
                    trial.remember(shape)
    assert not missed
    assert rendered < 2 * len(rows)  # the trial does pass over rows


def test_plain_rows_of_one_shape_are_rendered_once(tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = []
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Question {i}"},
                {"role": "assistant", "content": f'"{i}", of course'},
            ]
        }
        for i in range(500)
    ]
    file = tmp_path / "train.jsonl"
    file.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    report = check_files("chat-completion", {}, {"train": file}, trial=TemplateTrial(calls.append, ["<|end|>"]))
    assert report.files[0].rows == 500
    assert len(calls) == 1
