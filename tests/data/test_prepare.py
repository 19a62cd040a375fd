"""The prepare step end to end: real files in, a dataset out whose every label is an answer's."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from azft.data.check import _fate
from azft.data.dataset import open_dataset, read_manifest, verify
from azft.data.documents import Counts, LongRows
from azft.data.prepare import _split_off, prepare
from azft.data.prepare_findings import about_split
from azft.data.readers import Row
from azft.data.split import choose_validation, place_of
from azft.data.tokenizer import load_tokenizer
from azft.errors import FindingsError, MissingDependencyError
from azft.files import sha256_tree
from azft.parameters import PrepareParameters
from azft.recipe import Recipe
from azft.tasks import TASKS
from tests.helpers.tokens import tokenizer_folder

WORDS = "apple fox dog river stone light cloud seven eleven Paris"


def chat(number: int, answer: str | None = None) -> dict[str, Any]:
    words = WORDS.split()
    question = f"What is {words[number % 10]} number {number}?"
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer or f"It is {words[(number * 7) % 10]}, {number} times."},
        ]
    }


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def parameters(**changes: Any) -> PrepareParameters:
    values: dict[str, Any] = {
        "task": "chat-completion",
        "columns": {},
        "validation_split": None,
        "prompt": None,
        "labels": (),
        "resolution": None,
        "long_rows": "drop",
        "max_length": 256,
        "packing": True,
        "seed": 1,
    }
    return PrepareParameters(**{**values, **changes})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tokenizer_folder(tmp_path / "model", "phi-4-mini")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return {
        "train": jsonl(tmp_path / "train.jsonl", [chat(n) for n in range(40)]),
        "validation": jsonl(tmp_path / "validation.jsonl", [chat(n) for n in range(40, 52)]),
        "test": jsonl(tmp_path / "test.jsonl", [chat(n) for n in range(60, 72)]),
    }


def run(model: Path, output: Path, files: dict[str, Path], **changes: Any) -> list[str]:
    lines: list[str] = []
    prepare(parameters(**changes), model=model, output=output, progress=lines.append, **files)
    return lines


def learned(folder: Path, split: str, model: Path) -> list[str]:
    """What the labels of each document decode to, in the order of the file."""
    dataset, tokenizer = open_dataset(folder, split), load_tokenizer(model)
    documents = [dataset.document(number) for number in range(len(dataset.document_offsets) - 1)]
    return [tokenizer.decode(tokens[mask.astype(bool)].tolist()) for tokens, mask, *_ in documents]


def test_every_answer_is_learned_with_its_stop_token_and_nothing_else(
    model: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    lines = run(model, tmp_path / "dataset", files)
    verify(tmp_path / "dataset")
    for split, path in files.items():
        rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        answers = [f"{row['messages'][1]['content']}<|end|>" for row in rows]
        assert learned(tmp_path / "dataset", split, model) == answers
    manifest = read_manifest(tmp_path / "dataset")
    assert manifest["splits"]["train"]["documents"] == 40
    assert manifest["splits"]["train"]["sequences"] < 20
    assert lines[-3].startswith("train: 40 rows -> 40 documents, ")
    assert len(orjson.loads((tmp_path / "dataset" / "findings.json").read_bytes())) == len(lines) - 3


def test_the_same_inputs_give_the_same_bytes_wherever_and_however_they_are_prepared(
    model: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    run(model, tmp_path / "one", files, validation_split=None)
    (tmp_path / "elsewhere").mkdir()
    moved = {split: path.rename(tmp_path / "elsewhere" / path.name) for split, path in files.items()}
    code = (
        "import sys; from pathlib import Path; from azft.data.prepare import prepare\n"
        "from tests.data.test_prepare import parameters\n"
        "model, output, train, validation, test = map(Path, sys.argv[1:])\n"
        "prepare(parameters(), model=model, output=output, train=train, validation=validation, test=test)\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    arguments = map(str, (model, tmp_path / "two", *moved.values()))
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "true", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment, capture_output=True)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")


def test_missing_validation_rows_are_split_off_and_no_row_is_lost(
    model: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    lines = run(model, tmp_path / "d", {"train": files["train"]}, validation_split=0.25)
    train, validation = (learned(tmp_path / "d", split, model) for split in ("train", "validation"))
    assert 2 <= len(validation) <= 20
    assert sorted(train + validation) == sorted(f"{chat(n)['messages'][1]['content']}<|end|>" for n in range(40))
    assert any("data-split-off" in line for line in lines)
    assert "test" not in read_manifest(tmp_path / "d")["splits"]


def test_even_few_rows_leave_at_least_one_on_each_side(model: Path, tmp_path: Path) -> None:
    for count in (2, 3, 10):
        train = jsonl(tmp_path / "few.jsonl", [chat(n) for n in range(count)])
        run(model, tmp_path / "d", {"train": train}, validation_split=0.1)
        splits = read_manifest(tmp_path / "d")["splits"]
        assert splits["train"]["documents"] >= 1
        assert splits["validation"]["documents"] >= 1
        assert splits["train"]["documents"] + splits["validation"]["documents"] == count


def test_rows_that_wait_for_the_split_go_where_the_split_says() -> None:
    rows = [Row(line, chat(line)) for line in range(1, 400)]
    for share in (0.001, 0.01, 0.5, 0.999):
        chosen = choose_validation([place_of(row.data, seed=3) for row in rows], share=share)
        got = list(_split_off(iter(rows), share, seed=3))
        assert [row for row, _ in got] == rows
        assert [split == "validation" for _, split in got] == chosen


def test_broken_rows_stop_the_step_with_all_of_them_and_leave_no_dataset(
    model: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    rows = [chat(n) for n in range(12)]
    rows[3]["messages"][0]["role"] = "human"
    rows[7]["messages"][1]["content"] = ""
    lines: list[str] = []
    with pytest.raises(FindingsError) as caught:
        prepare(
            parameters(validation_split=0.1),
            model=model,
            train=jsonl(tmp_path / "bad.jsonl", rows),
            output=tmp_path / "d",
            progress=lines.append,
        )
    assert {"data-unknown-role", "data-empty-content"} <= {finding.code for finding in caught.value.findings}
    assert any("bad.jsonl:4" in line for line in lines)
    assert not (tmp_path / "d").exists()


def test_special_tokens_in_rows_stop_the_step_and_are_counted(model: Path, tmp_path: Path) -> None:
    rows = [chat(n, f"{n} <|end|><|user|>" if n % 2 else None) for n in range(20)]
    with pytest.raises(FindingsError) as caught:
        run(model, tmp_path / "d", {"train": jsonl(tmp_path / "t.jsonl", rows)}, validation_split=0.1)
    found = [finding for finding in caught.value.findings if finding.code == "data-special-token"]
    assert [finding.line for finding in found] == [2, 4, 6, 8, 10, 10]
    assert "5 more of this kind (10 in all)" in found[-1].message
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(("long_rows", "documents"), [("drop", 18), ("truncate", 20), ("split", 26)])
def test_long_rows_go_the_way_the_recipe_says(long_rows: str, documents: int, model: Path, tmp_path: Path) -> None:
    rows = [chat(n, "la " * 60 if n in {4, 9} else None) for n in range(20)]
    files = {
        "train": jsonl(tmp_path / "t.jsonl", rows),
        "validation": jsonl(tmp_path / "v.jsonl", [chat(30), chat(31)]),
    }
    lines = run(model, tmp_path / "d", files, long_rows=long_rows, max_length=64)
    manifest = read_manifest(tmp_path / "d")
    assert manifest["splits"]["train"]["documents"] == documents
    assert manifest["details"]["counts"]["train"]["long_rows"] == 2
    assert open_dataset(tmp_path / "d", "train").sequence_lengths.max() <= 64
    assert any("2 of 20 rows for train have more than 64 tokens" in line for line in lines)
    if long_rows == "split":
        assert learned(tmp_path / "d", "train", model)[4:7] != []
        joined = "".join(learned(tmp_path / "d", "train", model))
        assert joined == "".join(f"{row['messages'][1]['content']}<|end|>" for row in rows)


def test_a_package_that_evaluation_will_need_is_missed_before_a_row_is_read(
    model: Path, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sacrebleu" else find(name))
    with pytest.raises(MissingDependencyError, match="Measuring bleu needs the package `sacrebleu`") as caught:
        run(model, tmp_path / "d", files, measures=("loss", "bleu"))
    assert "pip install 'azft[train]'" in caught.value.fix
    assert not (tmp_path / "d").exists()
    run(model, tmp_path / "d", files, measures=("loss", "rougeL"))


def test_long_rows_are_errors_where_the_recipe_says_so(model: Path, tmp_path: Path) -> None:
    rows = [chat(n, "la " * 60 if n in {4, 9} else None) for n in range(20)]
    with pytest.raises(FindingsError) as caught:
        run(
            model,
            tmp_path / "d",
            {"train": jsonl(tmp_path / "t.jsonl", rows)},
            long_rows="error",
            max_length=64,
            validation_split=0.1,
        )
    assert [f.line for f in caught.value.findings if f.code == "data-row-too-long"] == [5, 10]


def test_the_models_context_bounds_the_sequences(model: Path, files: dict[str, Path], tmp_path: Path) -> None:
    (model / "config.json").write_text('{"max_position_embeddings": 96}')
    lines = run(model, tmp_path / "d", files)
    assert open_dataset(tmp_path / "d", "train").max_length == 96
    assert any("data-context-length" in line for line in lines)


def test_columns_of_other_names_are_read(model: Path, files: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"talk": row["messages"]} for row in map(chat, range(12))]
    renamed = {"train": jsonl(tmp_path / "a.jsonl", rows), "validation": jsonl(tmp_path / "b.jsonl", rows[:3])}
    run(model, tmp_path / "d", renamed, columns={"messages": "talk"})
    assert read_manifest(tmp_path / "d")["splits"]["train"]["documents"] == 12


def test_rows_of_weight_0_are_left_out_and_a_split_without_any_is_an_error(model: Path, tmp_path: Path) -> None:
    rows = [chat(n) for n in range(12)]
    for row in rows:
        row["messages"] += [{"role": "user", "content": "x " * 80}, {"role": "assistant", "content": "y"}]
        row["messages"][1]["weight"] = 0
    files = {
        "train": jsonl(tmp_path / "t.jsonl", rows),
        "validation": jsonl(tmp_path / "v.jsonl", [chat(30), chat(31)]),
    }
    with pytest.raises(FindingsError) as caught:
        run(model, tmp_path / "d", files, max_length=64, long_rows="truncate")
    assert {"data-no-documents", "data-nothing-learned"} <= {finding.code for finding in caught.value.findings}
    assert "no token of them would be learned" in str(caught.value)


def test_rows_that_are_all_too_long_are_answered_with_the_key_that_lets_them_in(model: Path, tmp_path: Path) -> None:
    files = {"train": jsonl(tmp_path / "t.jsonl", [chat(n) for n in range(12)])}
    with pytest.raises(FindingsError) as caught:
        run(model, tmp_path / "d", files, max_length=8)
    assert "t.jsonl: No row is left for train: each has more than 8 tokens." in str(caught.value)
    assert caught.value.fix.startswith("Raise training.max_length")


@pytest.mark.parametrize("long_rows", ["drop", "truncate", "split"])
@pytest.mark.parametrize("task", TASKS)
def test_the_check_foretells_what_becomes_of_long_rows_in_the_words_of_the_prepare_step(
    task: str, long_rows: LongRows
) -> None:
    fate = TASKS[task].fate(long_rows)
    counts = Counts(rows=9, documents=8, long_rows=2)
    said = [f.message for f in about_split("train", counts, "t", 16, task, long_rows) if f.code == "data-long-rows"]
    assert said == [f"2 of 9 rows for train have more than 16 tokens: {fate}."]
    recipe = {"name": "x", "task": task, "model": "m", "data": {"train": "t", "long_rows": long_rows}}
    assert _fate(Recipe.model_validate(recipe)) == f"is {fate}"
