"""What rows have to do with one another (copies, contradictions, leaks), in one process or several."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from azft.data import blocks, near_pairs, workers
from azft.data import check as check_module
from azft.data.check import DataReport, check_files
from azft.data.near_duplicates import similarity, squeezed
from azft.data.scan import Lengths
from azft.errors import AzftError

WORDS = [
    "river",
    "stone",
    "bright",
    "under",
    "winter",
    "paper",
    "often",
    "carry",
    "seven",
    "golden",
    "market",
    "quiet",
    "letter",
    "window",
    "follow",
    "simple",
]


def sentence(seed: int, length: int = 30) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length)) + f" {seed}"


def chat(question: str, answer: str, **columns: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], **columns}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def check(*files: Path, **options: Any) -> DataReport:
    roles = dict(zip(("train", "validation", "test"), files, strict=False))
    return check_files("chat-completion", {}, roles, **{"processes": 1, **options})


def found(report: DataReport, *codes: str) -> list[tuple[str, str, int | None, str]]:
    return [
        (Path(f.file or "").stem, f.code.removeprefix("data-"), f.line, f.message)
        for f in report.findings
        if f.code.removeprefix("data-") in codes
    ]


PAIRS = (
    "duplicate-row",
    "conflicting-answers",
    "leak",
    "prompt-leak",
    "near-duplicate",
    "near-leak",
    "near-prompt-leak",
    "same-file",
)


def test_copies_are_found_however_they_are_written(tmp_path: Path) -> None:
    row = chat(sentence(1), "An answer with é")
    turned = {"messages": [dict(reversed(list(message.items()))) for message in row["messages"]]}
    parts = chat([{"type": "text", "text": sentence(1)}], "An answer with é")  # type: ignore[arg-type]
    texts = [json.dumps(r, ensure_ascii=a, separators=s) for r, a, s in (
        (row, True, (", ", ": ")), (chat(sentence(2), "Else"), True, (", ", ": ")), (row, False, (",", ":")),
        (turned, True, (" ,", " : ")), (parts, True, (", ", ": ")))]  # fmt: skip
    (tmp_path / "train.jsonl").write_text("\n".join(texts) + "\n", encoding="utf-8")
    copies = found(check(tmp_path / "train.jsonl"), *PAIRS)
    assert [(code, line) for _, code, line, _ in copies] == [
        ("duplicate-row", 3),
        ("duplicate-row", 4),
        ("duplicate-row", 5),
    ]
    assert all("line 1" in message for *_, message in copies)


def test_a_row_with_tools_is_no_copy_of_one_without(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    rows = [chat(sentence(1), "Yes"), chat(sentence(1), "Yes", tools=tools), chat(sentence(1), "Yes", tools=tools)]
    assert [f[2] for f in found(check(write(tmp_path / "train.jsonl", rows)), "duplicate-row")] == [3]


def test_another_answer_to_the_same_conversation_is_a_contradiction(tmp_path: Path) -> None:
    rows = [chat(sentence(1), "Yes"), chat(sentence(2), "Yes"), chat(sentence(1), "No")]
    problems = found(check(write(tmp_path / "train.jsonl", rows)), *PAIRS)
    assert [(code, line) for _, code, line, _ in problems] == [("conflicting-answers", 3)]


def test_training_rows_in_held_out_files_are_leaks_with_the_line_of_both(tmp_path: Path) -> None:
    rows = [chat(sentence(i), f"Answer {i}") for i in range(20)]
    train = write(tmp_path / "train.jsonl", rows[:15])
    validation = write(tmp_path / "validation.jsonl", [rows[16], rows[3], chat(sentence(4), "Another answer")])
    test = write(tmp_path / "test.jsonl", [rows[17], rows[16]])
    problems = found(check(train, validation, test), *PAIRS)
    assert sorted((name, code, line) for name, code, line, _ in problems) == [
        ("test", "leak", 2),
        ("validation", "leak", 2),
        ("validation", "prompt-leak", 3),
    ]
    assert any("training data, on line 4" in message for *_, message in problems)
    assert any("validation data, on line 1" in message for *_, message in problems)


def test_the_same_file_twice_is_said_once_instead_of_a_leak_a_row(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", [chat(sentence(i), "A") for i in range(20)])
    report = check(train, train)
    assert [code for _, code, _, _ in found(report, *PAIRS)] == ["same-file"]


def test_near_duplicates_are_found_and_the_shared_system_turn_does_not_make_them(tmp_path: Path) -> None:
    system = {"role": "system", "content": sentence(999, 300)}
    rows = [chat(sentence(i), sentence(1000 + i)) for i in range(50)]
    rows.append(chat(sentence(7).replace("river", "rivers", 1), sentence(1007)))  # a word changed
    rows.append(chat(sentence(8).upper().replace(" ", "  "), sentence(1008)))  # case and spacing
    for row in rows:
        row["messages"].insert(0, system)
    held_out = [chat(sentence(9) + " indeed", sentence(1009))]
    train, validation = write(tmp_path / "train.jsonl", rows), write(tmp_path / "validation.jsonl", held_out)
    problems = found(check(train, validation), *PAIRS)
    assert [(name, code, line) for name, code, line, _ in problems] == [
        ("train", "near-duplicate", 51),
        ("train", "near-duplicate", 52),
        ("validation", "near-leak", 1),
    ]
    assert "line 8's" in problems[0][3]
    assert "But for case" in problems[1][3]
    assert not found(check(train, validation, near=False), "near-duplicate", "near-leak")


def test_the_recall_of_near_duplicates_is_what_the_module_says(tmp_path: Path) -> None:
    originals = [sentence(i, 60) for i in range(400)]
    rng = random.Random(5)
    copies = []
    for text in originals:
        words = text.split()
        words[rng.randrange(len(words) - 1)] = "elephant"
        copies.append(" ".join(words))
    similar = sum(similarity(squeezed(a), squeezed(b)) >= 0.87 for a, b in zip(originals, copies, strict=True))
    rows = [chat(text, "An answer that is the same") for text in originals + copies]
    report = check(write(tmp_path / "train.jsonl", rows))
    assert report.files[0].counts["data-near-duplicate"] >= 0.97 * similar > 300


def test_unlike_rows_of_one_template_are_not_reported(tmp_path: Path) -> None:
    rows = [chat(f"Please translate the following sentence into French, politely: {sentence(i)}", sentence(i + 5000))
            for i in range(300)]  # fmt: skip
    assert not found(check(write(tmp_path / "train.jsonl", rows)), *PAIRS)


@pytest.mark.parametrize("piece", [1000, 40_000])
def test_several_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    rng = random.Random(1)
    lines = []
    for number in range(300):
        row: Any = chat(sentence(rng.randrange(250)), sentence(number % 200), extra=1)
        damage = rng.randrange(12)
        if damage == 0:
            row["messages"][0]["role"] = "human"
        elif damage == 1:
            row["messages"][1]["content"] = "Itâ€™s"
        lines.append(json.dumps(row) if damage != 2 else "" if number % 2 else '{"cut')
    (tmp_path / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    write(tmp_path / "validation.jsonl", [chat(sentence(i), sentence(i)) for i in range(30)])
    files = (tmp_path / "train.jsonl", tmp_path / "validation.jsonl")
    monkeypatch.setattr(check_module, "_PIECE", piece)
    if piece == 1000:
        monkeypatch.setattr(
            check_module, "scan_in_processes", lambda pieces, _: [workers.scan_piece(p) for p in pieces]
        )
    several, one = check(*files, processes=2), check(*files)
    assert several == one
    assert several.files[0].rows == sum(bool(line) for line in lines)


@pytest.mark.parametrize("newline", [True, False])
def test_any_cut_into_ranges_gives_every_line_to_exactly_one_range(tmp_path: Path, newline: bool) -> None:
    rng = random.Random(2)
    lines = [b"x" * rng.choice([0, 1, 5, 40]) for _ in range(50)]
    content = b"\n".join(lines) + (b"\n" if newline else b"y")
    path = tmp_path / "lines"
    path.write_bytes(content)
    for size in range(1, len(content) + 2):
        starts = range(0, len(content), size)
        pieces = []
        for start in starts:
            found_blocks = blocks.read_blocks(path, start, start + size)
            pieces.append(b"".join(block for block in found_blocks if isinstance(block, bytes)))
        assert b"".join(pieces) == content, size
        assert all(piece.endswith(b"\n") for piece in [piece for piece in pieces if piece][:-1]), size


def count_words(rows: list[dict[str, Any]]) -> list[int]:
    return [sum(len(m["content"].split()) for m in row["messages"]) for row in rows]


@pytest.mark.parametrize(("fate", "code"), [("is left out", "long-row"), ("", "row-too-long")])
def test_long_rows_are_found_with_what_becomes_of_them(tmp_path: Path, fate: str, code: str) -> None:
    rows = [chat(sentence(1, 10), "Yes"), chat(sentence(2, 60), "Yes"), chat(sentence(3, 49), "Yes")]
    lengths = Lengths(count_words, 51, "training.max_length", fate, margin=0)
    problems = found(check(write(tmp_path / "train.jsonl", rows), lengths=lengths), "long-row", "row-too-long")
    assert [(name, c, line) for name, c, line, _ in problems] == [("train", code, 2)]
    assert "62 tokens, more than the 51 of training.max_length" in problems[0][3]
    assert fate in problems[0][3]


def test_a_row_that_the_template_refuses_does_not_hide_the_others(tmp_path: Path) -> None:
    def refuse(rows: list[dict[str, Any]]) -> list[int]:
        if any("refuse" in row["messages"][0]["content"] for row in rows):
            raise AzftError("Roles must alternate.", fix="Remove the row.")
        return count_words(rows)

    rows = [chat(sentence(1, 80), "Yes"), chat("refuse", "Yes"), chat(sentence(2, 60), "Yes")]
    lengths = Lengths(refuse, 50, "the model's context", "is cut off at the end", margin=10_000)
    problems = found(check(write(tmp_path / "train.jsonl", rows), lengths=lengths), "long-row", "not-renderable")
    assert [(code, line) for _, code, line, _ in problems] == [("not-renderable", 2), ("long-row", 1), ("long-row", 3)]


def test_rows_too_short_to_be_long_are_not_counted(tmp_path: Path) -> None:
    def never(rows: list[dict[str, Any]]) -> list[int]:
        raise RuntimeError("a row of 100 bytes can't have 4096 tokens")

    data = write(tmp_path / "train.jsonl", [chat("Hi", "Hello")])
    assert check(data, lengths=Lengths(never, 4096, "training.max_length", "is left out")).ok


def test_prompts_that_differ_in_case_and_spacing_only_are_one_prompt(tmp_path: Path) -> None:
    rows = [chat(sentence(1), "Yes, of course"), chat(sentence(1).upper(), "No, never")]
    train = write(tmp_path / "train.jsonl", rows)
    validation = write(tmp_path / "validation.jsonl", [chat(sentence(1).replace(" ", "\n"), "Perhaps, who knows")])
    problems = found(check(train, validation), *PAIRS)
    assert [(name, code, line) for name, code, line, _ in problems] == [
        ("train", "conflicting-answers", 2),
        ("validation", "prompt-leak", 1),
    ]
    assert all("but for case and spacing" in message for *_, message in problems)


def test_a_similar_prompt_with_an_unlike_answer_in_held_out_data_is_found(tmp_path: Path) -> None:
    rows = [chat(sentence(i, 40), sentence(1000 + i, 40)) for i in range(40)]
    train = write(tmp_path / "train.jsonl", rows)
    validation = write(tmp_path / "validation.jsonl", [chat(sentence(7, 40) + " please", sentence(5000, 40))])
    problems = found(check(train, validation), *PAIRS)
    assert [(name, code, line) for name, code, line, _ in problems] == [("validation", "near-prompt-leak", 1)]
    assert "of the conversation is the same as on line 8 of the training data" in problems[0][3]


def test_another_system_turn_makes_another_prompt(tmp_path: Path) -> None:
    rows = [chat(sentence(1), "Oui, bien sûr"), chat(sentence(1), "Ja, natürlich")]
    for row, language in zip(rows, ("French", "German"), strict=True):
        row["messages"].insert(0, {"role": "system", "content": f"Answer in {language}."})
    assert not found(check(write(tmp_path / "train.jsonl", rows)), "conflicting-answers")


def test_a_comparison_that_is_cut_short_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [chat(f"{sentence(1)} {number}", sentence(2)) for number in range(4)]
    assert not found(check(write(tmp_path / "all.jsonl", rows)), "near-capped")
    monkeypatch.setattr(near_pairs, "MAX_PAIRS", 1)
    assert len(found(check(write(tmp_path / "few.jsonl", rows)), "near-capped")) == 1


@pytest.mark.parametrize(
    ("task", "rows", "words"),
    [
        (
            "chat-completion",
            [chat("Open?", "Yes"), chat("Open?", "No")],
            "conversation is line 1's, with another answer.",
        ),
        (
            "text-classification",
            [{"text": "Open?", "label": "question"}, {"text": "Open?", "label": "order"}],
            "text is line 1's, with another label.",
        ),
        (
            "translation",
            [{"source": "Open?", "target": "Offen?"}, {"source": "Open?", "target": "Ouvert ?"}],
            "source is line 1's, with another translation.",
        ),
        (
            "token-classification",
            [{"tokens": ["Ann"], "tags": ["B-PER"]}, {"tokens": ["Ann"], "tags": ["O"]}],
            "text is line 1's, with another row of tags.",
        ),
    ],
    ids=str,
)
def test_contradictions_are_told_in_the_words_of_the_task(
    task: str, rows: list[dict[str, Any]], words: str, tmp_path: Path
) -> None:
    train = write(tmp_path / "train.jsonl", rows)
    problems = found(check_files(task, {}, {"train": train}, processes=1), "conflicting-answers")
    assert [message for *_, message in problems] == [f"The {words}"]


def asked(passage: str, question: str, answer: str) -> dict[str, Any]:
    return {"question": question, "context": passage, "answers": answer}


def check_questions(*files: Path) -> DataReport:
    roles = dict(zip(("train", "validation"), files, strict=False))
    return check_files("question-answering", {}, roles, processes=1)


def test_questions_about_one_passage_are_no_copies_of_each_other(tmp_path: Path) -> None:
    passage = sentence(1, 400)
    rows = [asked(passage, sentence(10 + n, 9), sentence(100 + n, 3)) for n in range(30)]
    assert similarity(squeezed(passage + rows[0]["question"]), squeezed(passage + rows[1]["question"])) > 0.9
    train = write(tmp_path / "train.jsonl", rows)
    held_out = write(tmp_path / "validation.jsonl", [asked(passage, sentence(99, 9), sentence(199, 3))])
    assert not found(check_questions(train, held_out), *PAIRS)


def test_a_question_asked_of_many_passages_is_no_copy(tmp_path: Path) -> None:
    rows = [asked(sentence(n, 400), sentence(1000, 20), sentence(2000, 5)) for n in range(30)]
    assert not found(check_questions(write(tmp_path / "train.jsonl", rows)), *PAIRS)


def test_the_same_question_about_the_same_passage_is_a_copy(tmp_path: Path) -> None:
    passages = [sentence(n, 400) for n in range(10)]
    rows = [asked(passages[n % 10], sentence(10 + n, 20), sentence(100 + n, 4)) for n in range(50)]
    again = {**rows[7], "context": rows[7]["context"] + " indeed", "question": rows[7]["question"].upper()}
    train = write(tmp_path / "train.jsonl", [*rows, again])
    validation = write(tmp_path / "validation.jsonl", [{**rows[20], "question": rows[20]["question"] + "?"}])
    problems = found(check_questions(train, validation), *PAIRS)
    assert [(name, code, line) for name, code, line, _ in problems] == [
        ("train", "near-duplicate", 51),
        ("validation", "near-leak", 1),
    ]
    assert "line 8's" in problems[0][3]


def test_answers_that_contradict_each_other_do_so_about_one_passage_only(tmp_path: Path) -> None:
    one, other = sentence(1, 60), sentence(2, 60)
    rows = [asked(one, "Who won?", "red"), asked(other, "Who won?", "blue"), asked(one.upper(), "who  won?", "blue")]
    problems = found(check_questions(write(tmp_path / "train.jsonl", rows)), *PAIRS)
    assert [(code, line) for _, code, line, _ in problems] == [("conflicting-answers", 3)]
