"""Files of foreign formats become a task's rows: what comes out, which format is taken, nothing half done."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from azft.cli.convert import EPILOG
from azft.data.check import check_files
from azft.data.convert import Conversion, convert
from azft.data.foreign import FORMATS
from azft.data.foreign_files import conll_rows, iob2
from azft.data.readers import Row
from azft.data.rows import RowChecker
from azft.errors import FindingsError, NotFoundError, UsageError
from azft.findings import Severity
from azft.tasks import TASKS

DESCRIBED = {"name": "weather", "description": "", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": DESCRIBED}]
ASKED = {"role": "user", "content": "Rain?"}


def called(arguments: str = '{"city":"Ulm"}', call_id: str = "call_1") -> dict[str, Any]:
    call = {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


CALLED = [
    ASKED,
    called(),
    {"role": "tool", "content": "dry", "tool_call_id": "call_1"},
    {"role": "assistant", "content": "No."},
]


def chat(*texts: str, system: str | None = None) -> dict[str, Any]:
    roles = ("user", "assistant")
    turns = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    return {"messages": [{"role": "system", "content": system}, *turns] if system else turns}


def said(speaker: str, value: Any) -> dict[str, Any]:
    return {"from": speaker, "value": value}


CASES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("ShareGPT", "sharegpt", {"conversations": [said("system", "Be kind."), said("human", "Hi"), said("gpt", "Hello")]},
     chat("Hi", "Hello", system="Be kind.")),
    ("ShareGPT with OpenAI's keys", "sharegpt", {"conversations": chat("Hi", "Hello")["messages"]},
     chat("Hi", "Hello")),
    ("ShareGPT's system column", "sharegpt", {"conversations": [said("user", "Hi"), said("bot", "Hello")],
     "system": "Be kind."}, chat("Hi", "Hello", system="Be kind.")),
    ("ShareGPT's function call", "sharegpt",
     {"conversations": [said("human", "Rain?"),
      said("function_call", '{"name": "weather", "arguments": {"city": "Ulm"}}'),
      said("observation", "dry"), said("gpt", "No.")], "tools": json.dumps([DESCRIBED])},
     {"messages": CALLED, "tools": TOOLS}),
    ("OpenAI's developer and parts", "openai",
     {"messages": [{"role": "developer",
       "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]},
      *chat("Hi", "Hello")["messages"]]}, chat("Hi", "Hello", system="Be kind.")),
    ("OpenAI's older function calls", "openai",
     {"messages": [ASKED, {"role": "assistant", "content": None, "refusal": None,
       "function_call": {"name": "weather", "arguments": '{"city":"Ulm"}'}},
      {"role": "function", "name": "weather", "content": "dry"}, {"role": "assistant", "content": "No."}],
      "functions": [DESCRIBED]}, {"messages": CALLED, "tools": TOOLS}),
    ("calls as objects without ids", "openai",
     {"messages": [ASKED, {"role": "assistant", "tool_calls": [{"function": {"name": "weather",
      "arguments": {"city": "Ulm"}}}]}, {"role": "tool", "content": "dry"}, {"role": "assistant", "content": "No."}],
      "tools": TOOLS}, {"messages": CALLED, "tools": TOOLS}),
    ("weight and name", "openai", {"messages": [{**ASKED, "name": "Ada"}, {"role": "assistant", "content": "No.",
     "weight": 0}, ASKED, {"role": "assistant", "content": "Yes.", "weight": 1}]},
     {"messages": [{**ASKED, "name": "Ada"}, {"role": "assistant", "content": "No.", "weight": 0}, ASKED,
      {"role": "assistant", "content": "Yes.", "weight": 1}]}),
    ("Alpaca", "alpaca", {"instruction": "Name it.", "input": "4 legs", "output": "A cat", "system": "Be kind.",
     "history": [["Hi", "Hello"]]}, chat("Hi", "Hello", "Name it.\n4 legs", "A cat", system="Be kind.")),
    ("Alpaca without input", "alpaca", {"instruction": "Say hi", "input": "", "output": "Hi"}, chat("Say hi", "Hi")),
    ("Azure", "azure", {"text": "Hi", "ground_truth": "Hello"}, chat("Hi", "Hello")),
    ("completion", "completion", {"prompt": "Hi", "completion": "[1, 2]"}, chat("Hi", "[1, 2]")),
    ("TRL's prompt and completion", "completion", {"prompt": [ASKED], "completion": [{"role": "assistant",
     "content": "No."}]}, chat("Rain?", "No.")),
    ("user and assistant", "turns", {"user": "Hi", "assistant": "Hello", "system": None}, chat("Hi", "Hello")),
    ("conversations that differ in their last turn", "preference",
     {"prompt": "Rain?", "chosen": [ASKED, said("gpt", "No.")], "rejected": [ASKED, said("gpt", "Yes.")]},
     {"prompt": [ASKED], "chosen": "No.", "rejected": "Yes."}),
    ("ShareGPT's preference", "preference",
     {"conversations": [said("human", "Rain?")], "chosen": said("gpt", "No."), "rejected": said("gpt", "Yes."),
      "system": "Be kind."},
     {"prompt": [{"role": "system", "content": "Be kind."}, ASKED], "chosen": "No.", "rejected": "Yes."}),
    ("OpenAI's preference", "preference",
     {"input": {"messages": [ASKED], "tools": [DESCRIBED], "parallel_tool_calls": True},
      "preferred_output": [{"role": "assistant", "content": "No."}],
      "non_preferred_output": [{"role": "assistant", "content": "Yes."}]},
     {"prompt": [ASKED], "chosen": "No.", "rejected": "Yes.", "tools": TOOLS}),
    ("SQuAD's row", "squad", {"id": "1", "title": "T", "question": "Who?", "context": "Ada did.",
     "answers": {"text": ["Ada"], "answer_start": [0]}},
     {"question": "Who?", "context": "Ada did.", "answers": {"text": ["Ada"], "answer_start": [0]}}),
]  # fmt: skip


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def errors_of(caught: pytest.ExceptionInfo[FindingsError]) -> list[tuple[int | None, str]]:
    return [(finding.line, finding.code) for finding in caught.value.findings]


@pytest.mark.parametrize(("name", "form", "row", "expected"), CASES, ids=[case[0] for case in CASES])
def test_a_row_of_each_format_is_recognised_and_becomes_the_tasks(
    tmp_path: Path, name: str, form: str, row: dict[str, Any], expected: dict[str, Any]
) -> None:
    done = convert(write(tmp_path / "in.jsonl", row), tmp_path / "out.jsonl")
    assert (done.format, done.task, done.rows) == (form, FORMATS[form].tasks[0], 1)
    assert lines(tmp_path / "out.jsonl") == [expected]
    assert check_files(done.task, {}, {"train": tmp_path / "out.jsonl"}, processes=1).ok


@pytest.mark.parametrize("ending", [".json", ".csv", ".parquet"])
def test_every_file_format_is_read(tmp_path: Path, ending: str) -> None:
    row = {"conversations": [said("human", "Hi, you"), said("gpt", 'Say "é"')], "id": "7"}
    source = tmp_path / f"in{ending}"
    if ending == ".json":
        source.write_text(json.dumps([row], indent=1))
    elif ending == ".csv":
        with source.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([row.keys(), [json.dumps(row["conversations"]), "7"]])
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist([row]), source)
    done = convert(source, tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl") == [chat("Hi, you", 'Say "é"')]
    assert [(finding.code, finding.severity) for finding in done.findings] == [("data-left-out", Severity.INFO)]


def test_one_exchange_becomes_prompt_and_completion_and_a_longer_chat_is_an_error(tmp_path: Path) -> None:
    good = {"conversations": [said("system", "Be kind."), said("human", "Hi"), said("gpt", "Hello")]}
    convert(write(tmp_path / "in.jsonl", good), tmp_path / "out.jsonl", task="text-generation")
    assert lines(tmp_path / "out.jsonl") == [{"prompt": "Be kind.\n\nHi", "completion": "Hello"}]
    long = {"conversations": [*good["conversations"], *good["conversations"][1:]]}
    with pytest.raises(FindingsError) as caught:
        convert(write(tmp_path / "in.jsonl", good, long), tmp_path / "new.jsonl", task="text-generation")
    assert errors_of(caught) == [(2, "data-not-convertible")]


def test_all_broken_rows_are_said_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    good = {"messages": [ASKED, {"role": "assistant", "content": "No."}]}
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}
    rows = [
        good,
        {"messages": [image, *good["messages"][1:]]},
        {"messages": "Hi"},
        {"messages": [{"role": "narrator", "content": "x"}]},
        {"messages": [ASKED]},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "assistant", "function_call": {"arguments": "{}"}}]},
        {"messages": ["Hi"]},
        {"messages": [{"role": "user", "content": 5}]},
    ]
    source = write(tmp_path / "in.jsonl", *rows)
    with source.open("a") as file:
        file.write("{broken\n\n")
    (tmp_path / "out").mkdir()
    with pytest.raises(FindingsError) as caught:
        convert(source, tmp_path / "out" / "out.jsonl")
    found = errors_of(caught)
    assert {line for line, _ in found} >= {2, 3, 4, 5, 6, 10}
    assert {code for _, code in found} == {"data-not-convertible", "data-no-assistant", "data-not-json"}
    assert all(finding.fix for finding in caught.value.findings if "more of this kind" not in finding.message)
    assert "9 of 10 rows" in caught.value.message
    assert list((tmp_path / "out").iterdir()) == []

    done = convert(source, tmp_path / "out" / "out.jsonl", skip_errors=True)
    assert (done.rows, done.skipped) == (1, 9)
    assert lines(tmp_path / "out" / "out.jsonl") == [good]
    assert not [finding for finding in done.findings if finding.severity is Severity.ERROR]


def test_a_file_that_is_there_is_written_over_only_with_force_and_kept_when_it_fails(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", {"text": "Hi", "ground_truth": "Hello"}), tmp_path / "out.jsonl"
    target.write_text("precious")
    with pytest.raises(UsageError, match="already there"):
        convert(source, target)
    with pytest.raises(FindingsError):
        convert(write(tmp_path / "bad.jsonl", {"text": "Hi", "ground_truth": 5}), target, force=True)
    assert target.read_text() == "precious"
    convert(source, target, force=True)
    assert lines(target) == [chat("Hi", "Hello")]


def test_columns_name_what_the_file_calls_them(tmp_path: Path) -> None:
    source = tmp_path / "faq.csv"
    source.write_text("Question,Answer,Where\nHi?,Hello,web\n", encoding="utf-8")
    target = tmp_path / "out.jsonl"
    convert(source, target, columns={"user": "Question", "assistant": "Answer"})
    assert lines(target) == [chat("Hi?", "Hello")]
    columns = {"prompt": "Question", "completion": "Answer"}
    done = convert(source, target, columns=columns, task="text-generation", force=True)
    assert (done.format, lines(target)) == ("completion", [{"prompt": "Hi?", "completion": "Hello"}])
    done = convert(source, target, columns={"text": "Question"}, task="text-generation", force=True)
    assert (done.format, lines(target)) == ("columns", [{"text": "Hi?"}])
    source.write_text('Words,Kinds\n"[""Ada"", ""ran""]","[""B-PER"", ""O""]"\n', encoding="utf-8")
    done = convert(
        source, target, columns={"tokens": "Words", "tags": "Kinds"}, task="token-classification", force=True
    )
    assert lines(target) == [{"tokens": ["Ada", "ran"], "tags": ["B-PER", "O"]}]
    with pytest.raises(UsageError, match="also needs the column answers"):
        convert(source, target, columns={"question": "Words"}, task="question-answering", force=True)


@pytest.mark.parametrize("options", [{}, {"task": "chat-completion"}, {"format": "turns"}])
def test_a_name_that_stands_for_no_column_is_answered_with_the_one_that_was_meant(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    (tmp_path / "faq.csv").write_text("Question,Answer,System\nHi?,Hello,Be kind\n")
    for names in (
        {"user": "Question", "assistant": "Anser"},
        {"user": "Question", "assistant": "Answer", "system": "Sytem"},  # it would be left out, and nobody the wiser
    ):
        with pytest.raises(UsageError, match=r"has no column `(Anser|Sytem)`") as caught:
            convert(tmp_path / "faq.csv", tmp_path / "out.jsonl", columns=names, **options)
        assert caught.value.fix in {"Did you mean `Answer`?", "Did you mean `System`?"}
    with pytest.raises(UsageError, match="has no column `Anser`"):
        convert(write(tmp_path / "in.jsonl", {"Q": "a", "A": "b"}), tmp_path / "out.jsonl", columns={"user": "Anser"})


def test_a_name_that_no_row_has_is_refused_though_the_format_could_do_without(tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {word}", "output": word} for word in ("hi", "bye")]
    alpaca = write(tmp_path / "in.jsonl", *rows)
    for names in ({"instruction": "Instr"}, {"system": "Persona"}, {"input": "Context"}):
        with pytest.raises(UsageError, match=rf"in.jsonl has no column `{next(iter(names.values()))}`"):
            convert(alpaca, tmp_path / "out.jsonl", columns=names)
    assert not (tmp_path / "out.jsonl").exists()
    later = write(tmp_path / "later.jsonl", rows[0], {**rows[1], "Context": "politely"})
    assert convert(later, tmp_path / "out.jsonl", columns={"input": "Context"}).rows == 2


def test_a_file_without_a_row_says_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "faq.csv").write_text("Question;Answer\nHi?;Hello\n")
    (tmp_path / "cut.jsonl").write_text('{"conversations": [{"from": "hum')
    (tmp_path / "empty.jsonl").write_text("")
    for name, code in (("faq.csv", "csv-separator"), ("cut.jsonl", "not-json"), ("empty.jsonl", "no-rows")):
        with pytest.raises(FindingsError, match="no row that can be read") as caught:
            convert(tmp_path / name, tmp_path / "out.jsonl")
        assert [finding.code for finding in caught.value.findings] == [f"data-{code}"]


def test_rows_that_are_the_tasks_already_need_only_names_in_the_recipe(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", {"query": "Who?", "answer": "Ada"})
    with pytest.raises(UsageError, match="needs no converting") as caught:
        convert(source, tmp_path / "out.jsonl", task="question-answering")
    assert "columns: {question: query, answers: answer}" in caught.value.fix
    (tmp_path / "labels.csv").write_text("review,sentiment\nFine,good\n")
    with pytest.raises(UsageError, match="needs no converting") as caught:
        convert(tmp_path / "labels.csv", tmp_path / "out.jsonl")
    assert "task: text-classification and data.columns: {text: review, label: sentiment}" in caught.value.fix


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"format": "sharegtp"}, "Did you mean `sharegpt`"),
        ({"task": "chat-completions"}, "Did you mean `chat-completion`"),
        ({"task": "question-answering"}, "can't become rows of question-answering"),
        ({"target": "out.csv"}, "NAME.jsonl"),
        ({"target": "."}, "JSON lines"),
        ({"source": "."}, "folder"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", {"text": "Hi", "ground_truth": "Hello"})
    with pytest.raises(UsageError) as caught:
        convert(options.pop("source", "in.jsonl"), options.pop("target", "out.jsonl"), **options)
    assert words in str(caught.value)
    with pytest.raises(NotFoundError):
        convert("none.jsonl", "out.jsonl")


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="colour") as caught:
        convert(write(tmp_path / "in.jsonl", {"colour": "red"}), tmp_path / "out.jsonl")
    assert all(name in caught.value.fix for name in FORMATS if name != "conll")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_a_row_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "in.jsonl").write_text(content)
    with pytest.raises(FindingsError) as caught:
        convert(tmp_path / "in.jsonl", tmp_path / "out.jsonl", format="openai")
    assert "data-no-rows" in {finding.code for finding in caught.value.findings}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"chosen": "No.", "rejected": "Yes."}, "what was asked"),
        ({"chosen": [ASKED, said("gpt", "No.")], "rejected": [said("human", "Snow?"), said("gpt", "Yes.")]}, "differ"),
        ({"prompt": "Rain?", "chosen": [], "rejected": "Yes."}, "not an answer"),
        ({"prompt": "Rain?", "chosen": [ASKED], "rejected": [ASKED]}, "does not end with an answer"),
    ],
)
def test_a_preference_that_is_none_is_an_error_that_says_why(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(FindingsError) as caught:
        convert(write(tmp_path / "in.jsonl", row), tmp_path / "out.jsonl")
    assert reason in caught.value.findings[0].message


def test_a_nested_squad_file_becomes_a_question_a_row(tmp_path: Path) -> None:
    asked = {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}
    never = {"id": "2", "question": "When?", "answers": [], "is_impossible": True}
    document = {
        "version": "v2.0",
        "data": [{"title": "T", "paragraphs": [{"context": "Ada did.", "qas": [asked, never]}]}],
    }
    (tmp_path / "in.json").write_text(json.dumps(document))
    done = convert(tmp_path / "in.json", tmp_path / "out.jsonl")
    assert (done.format, done.task, done.findings) == ("squad", "question-answering", ())
    assert lines(tmp_path / "out.jsonl") == [
        {"question": "Who?", "context": "Ada did.", "answers": {"text": ["Ada"], "answer_start": [0]}},
        {"question": "When?", "context": "Ada did.", "answers": {"text": [], "answer_start": []}},
    ]


def tagged(path: Path, text: str, **columns: int) -> list[tuple[int | None, Any]]:
    path.write_text(text, encoding="utf-8")
    return [(item.line, item.data if isinstance(item, Row) else item.problem) for item in conll_rows(path, **columns)]


def test_a_conll_file_becomes_a_sentence_a_row(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O O\n\nAda NNP I-NP I-PER\n# NN O O\n\n\nUlm NNP I-NP I-LOC\n"
    assert tagged(tmp_path / "x.conll", text) == [
        (3, {"tokens": ["Ada", "#"], "tags": ["B-PER", "O"]}),
        (7, {"tokens": ["Ulm"], "tags": ["B-LOC"]}),
    ]
    assert tagged(tmp_path / "x.conll", text, tag=2)[1] == (7, {"tokens": ["Ulm"], "tags": ["NNP"]})
    done = convert(tmp_path / "x.conll", tmp_path / "out.jsonl", columns={"tags": "3"})
    assert (done.format, done.task) == ("conll", "token-classification")
    assert lines(tmp_path / "out.jsonl")[0] == {"tokens": ["Ada", "#"], "tags": ["B-NP", "O"]}


def test_a_conllu_file_gives_forms_and_parts_of_speech_without_its_comments(tmp_path: Path) -> None:
    cells = [("1-2", "Im", "_"), ("1", "In", "ADP"), ("2", "dem", "DET"), ("2.1", "_", "X")]
    words = "".join(f"{number}\t{form}\t_\t{pos}" + "\t_" * 6 + "\n" for number, form, pos in cells)
    text = f"# sent_id = 1\n# text = Im\n{words}\n"
    assert tagged(tmp_path / "x.conllu", text) == [(4, {"tokens": ["In", "dem"], "tags": ["ADP", "DET"]})]


def test_a_line_without_a_tag_is_a_fault_at_its_line(tmp_path: Path) -> None:
    (line, fault), (_, row) = tagged(tmp_path / "x.conll", "Ada\nUlm B-LOC\n")
    assert (line, fault.code) == (1, "not-convertible")
    assert row["tokens"] == ["Ulm"]


def test_iob1_becomes_iob2_and_other_tags_stay() -> None:
    assert iob2(["I-PER", "I-PER", "B-PER", "O", "I-LOC", "I-ORG"]) == [
        "B-PER",
        "I-PER",
        "B-PER",
        "O",
        "B-LOC",
        "B-ORG",
    ]
    assert iob2(["S-PER", "B-LOC", "I-LOC", "E-LOC", "O"]) == ["S-PER", "B-LOC", "I-LOC", "E-LOC", "O"]
    assert iob2(["NOUN", "I"]) == ["NOUN", "I"]


@pytest.mark.parametrize(
    ("row", "task", "command"),
    [
        ({"conversations": []}, "chat-completion", "azft convert FILE NEW.jsonl"),
        ({"instruction": "a", "input": "b", "output": "c"}, "text-generation", "--task text-generation"),
        ({"text": "a", "ground_truth": "b"}, "text-generation", "--task text-generation"),
    ],
)
def test_the_data_check_names_the_command_for_foreign_rows(row: dict[str, Any], task: str, command: str) -> None:
    problems, _ = RowChecker(task, {}).check(row)
    assert [problem.values["fix"] for problem in problems if command in problem.values.get("fix", "")]


def test_a_null_column_of_the_tasks_own_is_no_foreign_format() -> None:
    problems, _ = RowChecker("chat-completion", {}).check({"messages": None})
    assert problems[0].values["found"] == "It is null."


def test_every_format_gives_known_tasks_and_knows_its_marks() -> None:
    for form in FORMATS.values():
        assert any(task in TASKS for task in form.tasks) or form.name == "conll"
        assert all(mark <= form.columns for mark in form.marks)


def test_the_conversion_says_what_it_did(tmp_path: Path) -> None:
    done = convert(write(tmp_path / "in.jsonl", {"text": "Hi", "ground_truth": "Hello"}), tmp_path / "out.jsonl")
    assert isinstance(done, Conversion)
    assert done.to_dict() == {
        "source": str(tmp_path / "in.jsonl"), "target": str(tmp_path / "out.jsonl"), "format": "azure",
        "task": "chat-completion", "rows": 1, "skipped": 0, "findings": [],
    }  # fmt: skip


def test_the_page_and_the_help_name_every_format_with_its_tasks() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    for form in FORMATS.values():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{form.name}` |")]
        assert row.rstrip(" |").endswith(", ".join(form.tasks))
        assert f"\n  {form.name} " in EPILOG


@pytest.mark.parametrize(
    "part", ["text", 5, None, {"text": "x"}, {"type": ["text"], "text": "x"}, {"type": "text", "text": 5}]
)
def test_a_part_that_is_no_text_is_an_error_of_its_row_whatever_it_is(tmp_path: Path, part: Any) -> None:
    row = {"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "No."}]}
    with pytest.raises(FindingsError) as caught:
        convert(write(tmp_path / "in.jsonl", row), tmp_path / "out.jsonl")
    assert errors_of(caught) == [(1, "data-not-convertible")]
