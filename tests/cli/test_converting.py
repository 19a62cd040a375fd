"""`azft convert` from outside: streams, exit codes, and what goes where."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.helpers.terminal import COMMAND, azft, environment

SHARED = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}


def piped(text: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "convert", *args], input=text, env=environment(), capture_output=True, text=True, check=False
    )


def test_standard_input_and_output_take_the_place_of_files() -> None:
    done = piped(json.dumps([SHARED], indent=1), "-", "-")
    assert done.returncode == 0, done.stderr
    assert [message["content"] for message in json.loads(done.stdout)["messages"]] == ["Hi", "Hello"]
    assert "1 rows of chat-completion from sharegpt" in done.stderr
    broken = piped(json.dumps(SHARED) + "\n{", "-", "-")
    assert (broken.returncode, broken.stdout) == (5, "")
    assert "<stdin>:2" in broken.stderr


def test_findings_come_as_json_and_the_exit_code_is_that_of_a_check(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps({"conversations": 5}) + "\n")
    result = azft("convert", "in.jsonl", "out.jsonl", "-o", "json", cwd=tmp_path)
    assert result.code == 5
    assert json.loads(result.out)["findings"][0]["code"] == "data-not-convertible"
    assert not (tmp_path / "out.jsonl").exists()
    assert azft("convert", "in.jsonl", "out.jsonl", "--columns", "user", cwd=tmp_path).code == 2
