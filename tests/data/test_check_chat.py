"""Every kind of damage that a chat row can have gets its own finding, on its own line, and good rows get none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from azft.data.chat_lane import ChatLane
from azft.data.check import DataReport, check_files
from azft.data.rows import RowChecker
from azft.data.rules import RULES
from azft.findings import Severity

USER = {"role": "user", "content": "Which is the largest planet?"}
ANSWER = {"role": "assistant", "content": "Jupiter, by far."}
SYSTEM = {"role": "system", "content": "Answer briefly."}
SURE, YES = {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes."}
GOOD: dict[str, Any] = {"messages": [SYSTEM, USER, ANSWER]}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "Jupiter"}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "a planet"}
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


def chat(*messages: Any, **columns: Any) -> dict[str, Any]:
    return {"messages": list(messages), **columns}


def calling(**changes: Any) -> dict[str, Any]:
    return {**CALLING, "tool_calls": [{**CALL, **changes}]}


def write(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def check(*files: Path, **options: Any) -> DataReport:
    roles = dict(zip(("train", "validation", "test"), files, strict=False))
    return check_files("chat-completion", {}, roles, **{"processes": 1, **options})


def codes_of(report: DataReport, *, line: int) -> set[str]:
    return {finding.code.removeprefix("data-") for finding in report.findings if finding.line == line}


DAMAGE: list[tuple[str, Any, set[str]]] = [
    ("cut off", json.dumps(GOOD)[:60].encode(), {"not-json"}),
    ("single quotes", str(GOOD).encode(), {"not-json"}),
    ("NaN", b'{"messages": NaN}', {"not-json"}),
    ("two rows on a line", json.dumps(GOOD).encode() * 2, {"not-json"}),
    ("raw tab in a text", json.dumps(GOOD).encode().replace(b"Answer", b"An\tswer"), {"not-json"}),
    ("Latin-1", '{"messages": "café"}'.encode("latin-1"), {"not-utf8"}),
    ("lone high surrogate", json.dumps(GOOD).replace("by far", "\\ud83d").encode(), {"lone-surrogate"}),
    ("lone low surrogate", json.dumps(GOOD).replace("by far", "\\ude00").encode(), {"lone-surrogate"}),
    ("surrogate in raw bytes", json.dumps(GOOD).encode().replace(b"by far", b"\xed\xa0\xbd"), {"not-utf8"}),
    ("deep nesting", b'{"messages":' + b"[" * 50_000, {"too-deep"}),
    ("huge exponent", b'{"messages": 1e999}', {"number-range"}),
    ("huge integer", b'{"messages": ' + b"9" * 6000 + b"}", {"number-range"}),
    ("raw NUL", json.dumps(GOOD).encode().replace(b"by far", b"by\x00far"), {"not-json"}),
    ("empty line", b"", {"empty-line"}),
    ("white space", b"  \t ", {"empty-line"}),
    ("array", b"[1, 2]", {"not-object"}),
    ("number", b"17", {"not-object"}),
    ("content given twice", (b'{"messages": [{"role": "user", "content": "a", "content": "b"}, '
     b'{"role": "assistant", "content": "c"}]}'), {"duplicate-key"}),
    ("messages given twice", b'{"messages": [], ' + json.dumps(GOOD).encode()[1:], {"duplicate-key"}),
    ("misspelt column", {"mesages": GOOD["messages"]}, {"missing-column"}),
    ("null column", {"messages": None}, {"missing-column"}),
    ("no column", {}, {"missing-column"}),
    ("ShareGPT", {"conversations": [{"from": "human", "value": "Hi"}]}, {"missing-column"}),
    ("Alpaca", {"instruction": "Say hi", "output": "Hi"}, {"missing-column"}),
    ("unknown column", chat(USER, ANSWER, source="web"), {"unknown-column"}),
    ("text for a list", {"messages": "hello"}, {"wrong-type"}),
    ("no messages", chat(), {"no-messages"}),
    ("message is text", chat("Hi", ANSWER), {"wrong-type"}),
    ("role missing", chat({"content": "Hi"}, ANSWER), {"missing-role"}),
    ("role is a number", chat({"role": 1, "content": "Hi"}, ANSWER), {"wrong-type"}),
    ("unknown role", chat({"role": "human", "content": "Hi"}, ANSWER), {"unknown-role"}),
    ("unknown key", chat({**USER, "contnet": "x"}, ANSWER), {"unknown-key"}),
    ("name is a number", chat({**USER, "name": 5}, ANSWER), {"wrong-type"}),
    ("content missing", chat({"role": "user"}, ANSWER), {"missing-content"}),
    ("content null", chat(USER, {"role": "assistant", "content": None}), {"empty-content"}),
    ("content empty", chat({"role": "user", "content": ""}, ANSWER), {"empty-content"}),
    ("content blank", chat(USER, {"role": "assistant", "content": " \n"}), {"empty-content"}),
    ("content is a number", chat({"role": "user", "content": 5}, ANSWER), {"wrong-type"}),
    ("image part", chat({"role": "user", "content": [{"type": "image_url"}]}, ANSWER), {"content-part"}),
    ("part without text", chat({"role": "user", "content": [{"type": "text"}]}, ANSWER), {"content-part"}),
    ("blank parts", chat({"role": "user", "content": [{"type": "text", "text": " "}]}, ANSWER), {"empty-content"}),
    ("no assistant", chat(SYSTEM, USER), {"no-assistant"}),
    ("ends with user", chat(USER, ANSWER, {"role": "user", "content": "Thanks"}), {"last-not-assistant"}),
    ("assistant first", chat(ANSWER, USER, {"role": "assistant", "content": "Mars"}), {"assistant-first"}),
    ("two user turns", chat(USER, {"role": "user", "content": "Well?"}, ANSWER), {"repeated-role"}),
    ("late system", chat(USER, SYSTEM, ANSWER), {"late-system"}),
    ("turn repeated", chat(USER, ANSWER, USER, {"role": "assistant", "content": "Again"}), {"repeated-turn"}),
    ("weight 2", chat(USER, {**ANSWER, "weight": 2}), {"bad-weight"}),
    ("weight true", chat(USER, {**ANSWER, "weight": True}), {"bad-weight"}),
    ("weight half", chat(USER, {**ANSWER, "weight": 0.5}), {"bad-weight"}),
    ("weight on user", chat({**USER, "weight": 1}, ANSWER), {"weight-on-other"}),
    ("all weights 0", chat(USER, {**ANSWER, "weight": 0}), {"nothing-to-learn"}),
    ("mojibake", chat({"role": "user", "content": "Itâ€™s a cafÃ©"}, ANSWER), {"mojibake"}),
    ("mojibake in a part", chat({"role": "user", "content": [{"type": "text", "text": "cafÃ©"}]}, ANSWER),
     {"mojibake"}),
    ("lost character", chat({"role": "user", "content": "caf\ufffd"}, ANSWER), {"replacement-character"}),
    ("escaped NUL", chat({"role": "user", "content": "a\x00b"}, ANSWER), {"control-character"}),
    ("unescaped LaTeX", chat({"role": "user", "content": "\frac{1}{2}"}, ANSWER), {"control-character"}),
    ("DEL", json.dumps(GOOD).encode().replace(b"largest", b"large\x7fst"), {"control-character"}),
    ("tools is text", chat(USER, CALLING, tools="look_up"), {"wrong-type"} | {"tool-undefined"}),
    ("tool without type", chat(USER, ANSWER, tools=[{"function": {"name": "f"}}]), {"tools-malformed"}),
    ("tool without name", chat(USER, ANSWER, tools=[{"type": "function", "function": {}}]), {"tools-malformed"}),
    ("tool described twice", chat(USER, ANSWER, tools=TOOLS * 2), {"tool-name-repeated"}),
    ("parallel_tool_calls is text", chat(USER, ANSWER, parallel_tool_calls="yes"), {"wrong-type"}),
    ("calls are an object", chat(USER, {**CALLING, "tool_calls": CALL}, tools=TOOLS), {"tool-call"}),
    ("no calls", chat(USER, {**ANSWER, "tool_calls": []}, tools=TOOLS), {"tool-call"}),
    ("call is text", chat(USER, {**CALLING, "tool_calls": ["look_up"]}, tools=TOOLS), {"tool-call"}),
    ("call without id", chat(USER, calling(id=""), tools=TOOLS), {"tool-call"}),
    ("call without type", chat(USER, calling(type=None), tools=TOOLS), {"tool-call"}),
    ("call without function", chat(USER, calling(function=None), tools=TOOLS), {"tool-call"}),
    ("call without a name", chat(USER, calling(function={"arguments": "{}"}), tools=TOOLS), {"tool-call"}),
    ("user calls a tool", chat({**USER, "tool_calls": [CALL]}, ANSWER, tools=TOOLS), {"tool-call"}),
    ("arguments as object", chat(USER, calling(function={"name": "look_up", "arguments": {}}), tools=TOOLS),
     {"tool-arguments"}),
    ("arguments not JSON", chat(USER, calling(function={"name": "look_up", "arguments": "{"}), tools=TOOLS),
     {"tool-arguments"}),
    ("arguments a list", chat(USER, calling(function={"name": "look_up", "arguments": "[]"}), tools=TOOLS),
     {"tool-arguments"}),
    ("function not described", chat(USER, calling(function={"name": "run", "arguments": "{}"}), tools=TOOLS),
     {"tool-undefined"}),
    ("no tools at all", chat(USER, CALLING), {"tool-undefined"}),
    ("call id twice", chat(USER, {**CALLING, "tool_calls": [CALL, CALL]}, tools=TOOLS), {"tool-call-id-reused"}),
    ("answer to no call", chat(USER, CALLING, {**RESULT, "tool_call_id": "c9"}, ANSWER, tools=TOOLS),
     {"tool-answer-unknown", "tool-call-unanswered"}),
    ("answer without id", chat(USER, CALLING, RESULT, {"role": "tool", "content": "x"}, ANSWER, tools=TOOLS),
     {"tool-answer-unknown"}),
    ("call never answered", chat(USER, CALLING, {"role": "user", "content": "And?"}, ANSWER, tools=TOOLS),
     {"tool-call-unanswered"}),
]  # fmt: skip
"""Name, row, and the exact codes that it gets."""

FINE: list[tuple[str, Any]] = [
    ("plain", GOOD),
    ("without system", chat(USER, ANSWER)),
    ("two rounds", chat(USER, ANSWER, SURE, YES)),
    ("short turn said twice", chat(USER, ANSWER, SURE, YES, SURE, {**YES, "content": "Yes!"})),
    ("text parts", chat({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, ANSWER)),
    ("weights", chat(USER, {**ANSWER, "weight": 0}, SURE, {**YES, "weight": 1})),
    ("name", chat({**USER, "name": "Ada"}, ANSWER)),
    ("tool call at the end", chat(USER, CALLING, tools=TOOLS)),
    ("tool call and answer", chat(USER, CALLING, RESULT, ANSWER, tools=TOOLS, parallel_tool_calls=False)),
    ("empty tool answer", chat(USER, CALLING, {**RESULT, "content": ""}, ANSWER, tools=TOOLS)),
    ("null tools", chat(USER, ANSWER, tools=None)),
    ("accents, dashes and emoji", chat({**USER, "content": "CAFÉ” – ÂME, NÃO… Ãs 😀 «É» Привет 你好 ’"}, ANSWER)),
    ("escaped backslashes", chat({"role": "user", "content": r"\frac{1}{2} \beta \u0000 C:\new \"q\" \\"}, ANSWER)),
    ("line breaks and tabs", chat({"role": "user", "content": "a\tb\r\nc"}, ANSWER)),
    ("quotes in quotes", chat({"role": "user", "content": '{"messages": [{"role": "user", "content": "x"}]}'}, ANSWER)),
]  # fmt: skip


@pytest.mark.parametrize(("row", "expected"), [case[1:] for case in DAMAGE], ids=[case[0] for case in DAMAGE])
def test_each_damage_is_found_on_its_line_and_nothing_else_is(tmp_path: Path, row: Any, expected: set[str]) -> None:
    data = write(tmp_path / "train.jsonl", GOOD, row, chat(USER, {"role": "assistant", "content": "Another answer"}))
    report = check(data)
    assert codes_of(report, line=2) == expected
    assert codes_of(report, line=1) == set()


@pytest.mark.parametrize("row", [case[1] for case in FINE], ids=[case[0] for case in FINE])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_good_row_has_no_finding(tmp_path: Path, row: Any, ascii_only: bool) -> None:
    data = tmp_path / "train.jsonl"
    data.write_text(json.dumps(row, ensure_ascii=ascii_only) + "\n", encoding="utf-8")
    report = check(data)
    assert {finding.code for finding in report.findings} <= {"data-few-rows", "data-lengths-unchecked"}
    assert report.ok
    assert report.files[0].rows == 1


@pytest.mark.parametrize("row", [case[1] for case in FINE] + [case[1] for case in DAMAGE])
def test_the_fast_lane_never_passes_what_the_thorough_check_would_report(row: Any) -> None:
    raw = row if isinstance(row, bytes) else json.dumps(row).encode()
    problems, checked = RowChecker("chat-completion", {}).check_json(raw)
    result = ChatLane("messages").read_block(json.dumps(GOOD).encode() + b"\n" + raw + b"\n", texts=True)
    if problems:
        assert result.whole[1] == 0
    elif result.whole[1]:
        assert checked is not None
        checker = RowChecker("chat-completion", {})
        assert checker.digests(checked) == (int(result.whole[1]), int(result.before[1]))
        assert result.texts is not None
        assert result.texts[1] == checker.text(checked)


def test_renamed_columns_are_followed(tmp_path: Path) -> None:
    data = write(tmp_path / "train.jsonl", {"dialog": GOOD["messages"]}, {"messages": GOOD["messages"]})
    report = check_files("chat-completion", {"messages": "dialog"}, {"train": data}, processes=1)
    assert codes_of(report, line=1) == set()
    assert codes_of(report, line=2) == {"missing-column"}


def test_an_unknown_column_is_reported_once_and_does_not_slow_the_rest(tmp_path: Path) -> None:
    rows = [chat({"role": "user", "content": f"Question {i}"}, ANSWER, id=i, source="web") for i in range(200)]
    report = check(write(tmp_path / "train.jsonl", *rows))
    unknown = [finding for finding in report.findings if finding.code == "data-unknown-column"]
    assert [finding.line for finding in unknown] == [1, 1]
    assert report.files[0].counts["data-unknown-column"] == 2


def test_thousands_of_faults_are_counted_exactly_and_shown_by_five(tmp_path: Path) -> None:
    rows = [
        chat({"role": "user", "content": f"Question {i}"}, {"role": "assistant", "content": ""}) for i in range(3000)
    ]
    report = check(write(tmp_path / "train.jsonl", *rows))
    empty = [finding for finding in report.findings if finding.code == "data-empty-content"]
    assert [finding.line for finding in empty] == [1, 2, 3, 4, 5, 5]
    assert empty[-1].message == "... and 2,995 more of this kind (3,000 in all)."
    assert report.files[0].counts == {"data-empty-content": 3000}


def test_every_message_is_printable_and_short_whatever_the_data(tmp_path: Path) -> None:
    evil = "\x1b[31m\ud800" + "x" * 100_000
    rows = [
        chat({"role": evil, "content": "a"}, ANSWER),
        chat({**USER, evil: 1}, ANSWER),
        {evil: 1},
        chat(USER, ANSWER, **{evil: 1}),
    ]
    raw = [json.dumps(row).replace("\\ud800", "\\u202e").encode() for row in rows]
    for finding in check(write(tmp_path / "train.jsonl", *raw)).findings:
        assert finding.message.isprintable()
        assert finding.fix.isprintable()
        assert len(finding.message) < 500


def test_an_error_stops_a_run_and_a_warning_does_not(tmp_path: Path) -> None:
    assert not check(write(tmp_path / "a.jsonl", {"messages": []})).ok
    assert check(write(tmp_path / "b.jsonl", chat(USER, SYSTEM, ANSWER))).ok


def test_every_rule_is_in_the_table_of_damage_or_named_by_another_test() -> None:
    covered = {code for _, _, codes in DAMAGE for code in codes}
    others = [path for path in Path(__file__).parents[1].rglob("test_*.py") if path != Path(__file__)]
    texts = "".join(path.read_text(encoding="utf-8") for path in others)
    named = {code for code in RULES if f'"{code}"' in texts or f'"data-{code}"' in texts}
    assert covered <= set(RULES)
    assert covered | named == set(RULES)
    assert all(rule.severity in set(Severity) and rule.fix and rule.why for rule in RULES.values())
