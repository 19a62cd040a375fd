"""`azft emulator` as a person runs it: a process of its own, ended by Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from azft.cli import main
from azft.execution.ranks import own_module


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", "from azft.cli.main import main; main()", "emulator", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_it_prints_lines_for_a_shell_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    with running("--root", str(tmp_path / "state")) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("export SSL_CERT_FILE="):
            lines.append(process.stdout.readline().rstrip("\n"))
            assert lines[-1], process.stderr and process.stderr.read()
        script = "\n".join([*lines, 'echo "$AZFT_AZURE_ENDPOINT" "$REQUESTS_CA_BUNDLE"'])
        shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        url, bundle = shlex.split(shell.stdout)
        assert requests.get(f"{url}/_emulator/health", verify=bundle, timeout=10).json()["url"] == url
        settings = requests.get(f"{url}/_emulator/settings", verify=bundle, timeout=10).json()
        for name in ("trainer", "server"):
            assert settings[f"{name}_command"] == list(own_module(f"azft.rehearsal.{name}"))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0
        assert said.splitlines() == [f"Listening on {url}. End it with Ctrl-C.", "Ended."]


def test_as_json_and_twice_on_one_folder(tmp_path: Path) -> None:
    with running("--root", str(tmp_path / "state"), "-o", "json") as process:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n}\n"):
            text += process.stdout.readline()
        found = json.loads(text)
        assert found["environment"]["AZFT_AZURE_ENDPOINT"] == found["url"]
        with running("--root", str(tmp_path / "state")) as second:
            _, said = second.communicate(timeout=20)
            assert second.returncode == 2
            assert "keeps its state" in said
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_nothing_of_it_stays_without_a_root(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", "from azft.cli.main import main; main()", "emulator", "-o", "none"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Listening")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_hold_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main.run(["emulator", "--root", str(tmp_path / "file" / "state")]) == 2
    assert "can't keep its state in" in capsys.readouterr().err
