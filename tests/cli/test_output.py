"""Formats, queries, colours and terminals: every command has them from one renderer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers.terminal import azft, azft_at_terminal, environment


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    assert azft("init", str(folder), "--name", "demo").code == 0
    return folder


@pytest.fixture
def faulty(demo: Path, tmp_path: Path) -> Path:
    """The example with a broken training file: an empty answer that holds an escape sequence's worth of trouble."""
    rows = (demo / "train.jsonl").read_text().splitlines()
    rows[16] = json.dumps({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": ""}]})
    rows[40] = json.dumps({"messages": [{"role": "\x1b[31muser é", "content": "x"}]})
    (tmp_path / "train.jsonl").write_text("\n".join(rows) + "\n")
    for name in ("recipe.yaml", "validation.jsonl", "test.jsonl"):
        (tmp_path / name).write_bytes((demo / name).read_bytes())
    return tmp_path


class TestFormats:
    def test_json_is_data_on_stdout_and_nothing_else(self, faulty: Path) -> None:
        result = azft("check", "-o", "json", cwd=faulty)
        report = json.loads(result.out)
        assert result.code == 5
        assert result.err == ""
        errors = [finding for finding in report["findings"] if finding["severity"] == "error"]
        assert {finding["line"] for finding in errors} == {17, 41}
        assert set(errors[0]) == {"code", "severity", "file", "line", "message", "fix"}

    def test_yaml_holds_the_same_as_json(self, faulty: Path) -> None:
        assert yaml.safe_load(azft("check", "-o", "yaml", cwd=faulty).out) == json.loads(
            azft("check", "-o", "json", cwd=faulty).out
        )

    def test_none_prints_nothing_and_keeps_the_exit_code(self, faulty: Path) -> None:
        result = azft("check", "-o", "none", cwd=faulty)
        assert (result.code, result.out) == (5, "")

    def test_tsv_is_a_line_a_row_without_a_header(self, demo: Path) -> None:
        result = azft("check", "-o", "tsv", "--query", "files[].[role, rows]", cwd=demo)
        assert result.out == "train\t180\nvalidation\t24\ntest\t24\n"

    def test_tsv_escapes_what_would_break_a_row(self) -> None:
        assert azft("schema", "-o", "tsv", "--query", "['a\tb', 'c']").out == "a\\tb\nc\n"

    def test_a_query_picks_from_the_data_in_every_format(self, demo: Path) -> None:
        query = "files[?role=='test'] | [0].rows"
        for form in ("table", "json", "yaml", "tsv"):
            assert azft("check", "-o", form, "--query", query, cwd=demo).out.split()[0] == "24"

    def test_a_query_of_rows_becomes_a_table(self, demo: Path) -> None:
        out = azft("check", "--query", "files[].{role: role, rows: rows}", cwd=demo).out
        assert out.splitlines()[0].split() == ["role", "rows"]
        assert out.splitlines()[1].split() == ["train", "180"]

    def test_the_environment_sets_the_default_format(self, demo: Path) -> None:
        assert json.loads(azft("check", cwd=demo, AZFT_OUTPUT="json").out)

    def test_a_recipe_error_is_data_too_when_data_is_asked_for(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text("name: a\nmodle: b\n")
        result = azft("check", "-o", "json", cwd=tmp_path)
        assert result.code == 2
        assert {finding["line"] for finding in json.loads(result.out)["findings"]} == {1, 2}
        assert azft("check", cwd=tmp_path).out == ""


class TestTerminals:
    def test_findings_are_grouped_with_place_and_fix(self, faulty: Path) -> None:
        out = azft_at_terminal("check", cwd=faulty, columns=100).plain
        assert "2 errors" in out
        assert "train.jsonl:17" in out
        assert "→ " in out

    def test_control_characters_of_data_never_reach_the_terminal(self, faulty: Path) -> None:
        for result in (azft_at_terminal("check", cwd=faulty, NO_COLOR="1"), azft("check", cwd=faulty)):
            assert "\x1b[31muser" not in result.out

    def test_colour_only_at_a_terminal_and_never_with_no_color(self, faulty: Path) -> None:
        assert "\x1b[1;31m" in azft_at_terminal("check", cwd=faulty).out
        assert "\x1b[1;31m" not in azft_at_terminal("check", cwd=faulty, NO_COLOR="1").out
        assert "\x1b" not in azft("check", cwd=faulty, NO_COLOR=None).out
        assert "\x1b[1;31m" not in azft_at_terminal("check", cwd=faulty, TERM="dumb").out

    @pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
    def test_nothing_is_wider_than_the_terminal(self, faulty: Path, columns: int) -> None:
        for command in ("check", "plan"):
            out = azft_at_terminal(command, cwd=faulty, columns=columns).plain
            assert max(len(line) for line in out.splitlines()) <= columns
            assert "data-empty-content" in "".join(line.strip() for line in out.splitlines())

    def test_columns_wrap_what_is_piped_and_cut_nothing_off(self, faulty: Path) -> None:
        wide, narrow = (azft("check", cwd=faulty, COLUMNS=columns).out for columns in (None, "40"))
        assert max(map(len, narrow.splitlines())) <= 40
        assert set(re.findall(r"[a-z]{3,}", wide)) <= set(re.findall(r"[a-z]{3,}", narrow))

    @pytest.mark.parametrize("width", [{"TERM": "dumb"}, {"COLUMNS": "20"}])
    def test_what_a_script_takes_whole_is_never_broken(self, width: dict[str, str]) -> None:
        words = "export SSL_CERT_FILE=" + "x/" * 200
        code = f"from azft.cli import render, views; render.write(views.line({words!r}))"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(**width), capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{words}\n"

    def test_a_pipe_has_no_width_whatever_the_terminal(self, demo: Path) -> None:
        assert azft("plan", cwd=demo, TERM="dumb").out == azft("plan", cwd=demo).out

    def test_without_a_terminal_a_finding_stays_on_one_line(self, faulty: Path) -> None:
        lines = azft("check", cwd=faulty).out.splitlines()
        assert any("train.jsonl:17" in line and line.rstrip() == line for line in lines)
        assert not any(line.endswith(" ") for line in lines)

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
    def test_any_encoding_can_be_printed(self, faulty: Path, encoding: str) -> None:
        for args in (("check",), ("check", "-o", "json"), ("check", "-o", "yaml"), ("plan",), ("schema",)):
            result = azft(*args, cwd=faulty, PYTHONIOENCODING=encoding)
            assert result.code in {0, 5}, result.err
            assert "Traceback" not in result.err
        assert json.loads(azft("check", "-o", "json", cwd=faulty, PYTHONIOENCODING="ascii").out)

    def test_errors_go_to_standard_error(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text(
            "name: a\ntask: chat-completion\nmodel: m\ndata: {train: t}\ntraning: {}\n"
        )
        result = azft("plan", cwd=tmp_path)
        assert result.out == ""
        assert "recipe.yaml:5" in result.err
        assert "Did you mean `training`?" in result.err
