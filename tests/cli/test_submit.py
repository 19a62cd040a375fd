"""Runs from the command line, with toy steps: submit, watch, interrupt, resume, cancel, and what each prints."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft.cli import main
from azft.runs import RunStore
from tests.helpers.terminal import COMMAND, ROOT, Result, azft, azft_at_terminal, environment
from tests.helpers.toy import Toy, make_toy

SITE = """
import importlib
from pathlib import Path
from tests.helpers.toy import any_folder_is_a_model, use_toy_components
use_toy_components({bundled!r})
importlib.import_module("azft.plan").resolve_model = any_folder_is_a_model
importlib.import_module("azft.data_check").check_for_plan = lambda *_: ()
"""


class Shop(Toy):
    """The toy pipeline behind the real command line."""

    @property
    def env(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder / "site"), str(ROOT)])
        return {"PYTHONPATH": path, "AZFT_TOY": str(self.control), "AZFT_TOY_BUNDLED": str(self.folder / "bundled")}

    def azft(self, *args: str, **env: str) -> Result:
        return azft(*args, cwd=self.folder, **{**self.env, **env})

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*COMMAND, *args],
            cwd=self.folder,
            env=environment(**self.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def run(self) -> str:
        (only,) = RunStore(self.root).list()
        return only.name


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = make_toy(tmp_path / "shop")
    (made.folder / "site" / "sitecustomize.py").write_text(SITE.format(bundled=str(made.folder / "bundled")))
    yield Shop(made.folder)
    for step in ("prepare", "finetune", "evaluate", "package"):  # nothing that was started stays behind
        made.release(step)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def until(process: subprocess.Popen[bytes], event: str, step: str) -> None:
    """Read a command's NDJSON up to an event."""
    assert process.stdout is not None
    for line in process.stdout:
        found = json.loads(line)
        if (found.get("event"), found.get("step")) == (event, step):
            return
    raise AssertionError(f"{event} of {step} never came: {process.stderr.read().decode()}")  # type: ignore[union-attr]


def test_submit_shows_progress_on_stderr_and_the_result_on_stdout(shop: Shop) -> None:
    result = shop.azft("submit")
    assert result.code == 0, result.err
    assert "Completed" in result.out
    assert shop.run in result.out
    assert "prepare: started" in result.err
    assert "finetune: step 1  loss 2.500" in result.err
    assert f"azft chat {shop.run}" in result.err


def test_the_same_plan_twice_is_one_run(shop: Shop) -> None:
    assert shop.azft("submit").code == 0
    again = shop.azft("submit")
    assert again.code == 0
    assert "Completed" in again.out
    assert len(shop.starts()) == 4
    assert shop.azft("submit", "--again", "--force").code == 0
    assert len(shop.starts()) == 8
    assert len(shop.azft("runs", "-o", "tsv", "--query", "[].name").out.splitlines()) == 2


def test_json_is_one_event_a_line_and_the_last_is_the_result(shop: Shop) -> None:
    result = shop.azft("submit", "-o", "json")
    seen = events(result.out)
    assert result.err == ""
    started = [event["step"] for event in seen if event["event"] == "step-started"]
    assert started == ["prepare", "finetune", "evaluate", "package"]
    assert {"event": "metrics", "step": "finetune", "metrics": {"step": 1, "loss": 2.5}} in seen
    assert seen[-1]["event"] == "result"
    assert seen[-1]["state"] == "Completed"
    assert set(seen[-1]["outputs"]) >= {"packaged", "trained", "metrics"}


def test_a_dry_run_shows_the_plan_and_starts_nothing(shop: Shop) -> None:
    result = shop.azft("submit", "--dry-run", "--set", "training.epochs=7")
    assert result.code == 0
    assert "epochs=7" in result.out
    assert "nothing is billed" in result.out
    assert "Nothing was started" in result.err
    assert not shop.root.joinpath("runs").exists()


def test_a_failed_step_exits_with_7_and_shows_its_last_lines(shop: Shop) -> None:
    shop.fail("evaluate", 9)
    result = shop.azft("submit")
    assert result.code == 7
    assert result.out == ""
    assert "evaluate: failed" in result.err
    assert "| evaluate starts" in result.err
    status = shop.azft("status", "--latest")
    assert "Failed in evaluate" in status.out
    assert status.code == 0
    assert shop.azft("logs", "--latest", "--follow").code == 7
    shop.release("evaluate")
    assert shop.azft("resume", "--latest").code == 0
    assert shop.starts() == ["prepare", "finetune", "evaluate", "evaluate", "package"]


def test_a_failure_is_the_last_json_event_too(shop: Shop) -> None:
    shop.fail("prepare", 3)
    result = shop.azft("submit", "-o", "json")
    last = events(result.out)[-1]
    assert result.code == 7
    assert (last["event"], last["exit_code"]) == ("error", 7)
    assert "prepare" in last["message"]


def test_ctrl_c_ends_the_children_and_says_how_to_go_on(shop: Shop) -> None:
    shop.hold("finetune")
    process = shop.start("submit", "-o", "json")
    until(process, "log", "finetune")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"azft resume {shop.run}" in err.decode()
    assert b"Traceback" not in err
    assert events(out.decode())[-1]["exit_code"] == 130
    assert "Interrupted in finetune" in shop.azft("status", "--latest").out
    shop.release("finetune")
    resumed = shop.azft("resume", shop.run[:6], "--follow")
    assert resumed.code == 0
    assert "finetune | from step" in resumed.err
    assert shop.starts() == ["prepare", "finetune", "finetune", "evaluate", "package"]


def test_a_run_without_waiting_can_be_watched_and_canceled_from_elsewhere(shop: Shop) -> None:
    shop.hold("finetune")
    started = shop.azft("submit", "--no-wait")
    assert started.code == 0
    assert f"azft logs {shop.run} --follow" in started.err
    watching = shop.start("logs", shop.run, "--follow", "-o", "json")
    until(watching, "log", "finetune")
    canceled = shop.azft("cancel", shop.run)
    assert canceled.code == 0
    assert "asked to stop" in canceled.out
    watching.communicate(timeout=60)
    assert watching.returncode == 7
    assert "Canceled" in shop.azft("status", shop.run).out
    assert "not running" in shop.azft("cancel", shop.run).out


def test_ctrl_c_while_watching_leaves_the_run_alone(shop: Shop) -> None:
    shop.hold("finetune")
    assert shop.azft("submit", "--no-wait", "-o", "none").code == 0
    watching = shop.start("logs", shop.run, "--follow", "-o", "json")
    until(watching, "log", "finetune")
    os.killpg(watching.pid, signal.SIGINT)
    _, err = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert f"azft cancel {shop.run}" in err.decode()
    assert "Running" in shop.azft("status", shop.run).out
    shop.release("finetune")
    assert shop.azft("logs", shop.run, "--follow", "-o", "none").code == 0
    assert "Completed" in shop.azft("status", shop.run).out


def test_a_reader_that_goes_away_does_not_end_the_run(shop: Shop) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "submit", "-o", "json"],
        cwd=shop.folder,
        env=environment(**shop.env),
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    assert RunStore(shop.root).list()[0].state == "Completed"


def test_a_saved_plan_is_carried_out_or_refused_when_stale(shop: Shop) -> None:
    assert shop.azft("plan", "--out", "plan.json").code == 0
    assert shop.azft("submit", "plan.json", "--set", "training.epochs=1").code == 2
    assert shop.azft("submit", "plan.json").code == 0
    with (shop.folder / "train.jsonl").open("a") as file:
        file.write("\n")
    for more in ((), ("--dry-run",)):
        stale = shop.azft("submit", "plan.json", *more)
        assert stale.code == 3
        assert "train.jsonl has other contents" in stale.err
        assert "azft plan" in stale.err
    (shop.folder / "other.json").write_text("{}")
    assert shop.azft("submit", "other.json").code == 2


@pytest.mark.parametrize(
    "flags",
    [["--subscription", "x"], ["-g", "x"], ["-w", "x"], ["--auth", "cli"], ["--force"], ["--again", "--no-wait"]],
    ids=" ".join,
)
def test_flags_without_effect_on_a_rehearsal_are_refused(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AZFT_AUTH", "env")  # what the environment says for all commands is no mistake
    assert main.run(["submit", "nowhere.yaml", "--rehearse", *flags]) == 2
    said = capsys.readouterr().err
    assert "--rehearse goes by itself" in said
    assert all(flag in said for flag in flags if flag.startswith("--"))
    assert main.run(["submit", "nowhere.yaml", "--rehearse", "--wait"]) == 2
    assert "goes by itself" not in capsys.readouterr().err  # there is no such file


def test_the_logs_of_a_run_that_reused_every_step_say_where_they_are(shop: Shop) -> None:
    assert shop.azft("submit").code == 0
    first = shop.run
    said = shop.azft("submit", "--again").err
    assert f"prepare: reused from {first}, " in said
    assert f"Another run of {first} (local)" in said
    said = f"prepare: reused from {first}; it wrote nothing here. Its log: azft logs {first} --step prepare"
    for arguments in (("--follow",), ("--step", "prepare", "-o", "json")):
        shown = shop.azft("logs", f"{first}-2", *arguments)
        assert (shown.code, shown.out) == (0, "[]\n" if "json" in arguments else "")
        assert said in shown.err
        assert len(shown.err.splitlines()) == (1 if "--step" in arguments else 4)


def test_logs_are_told_apart_by_step_and_cut_by_tail(shop: Shop) -> None:
    assert shop.azft("submit", "-o", "none").out == ""
    everything = shop.azft("logs", "--latest").out.splitlines()
    assert "prepare | prepare starts" in everything
    assert "package | package starts" in everything
    assert shop.azft("logs", "--latest", "--step", "finetune", "--tail", "1").out == "from step 0\n"
    assert shop.azft("logs", "--latest", "--step", "finetune", "--tail", "0").out == ""
    lines = json.loads(shop.azft("logs", "--latest", "--step", "prepare", "-o", "json").out)
    assert lines == [{"step": "prepare", "line": "prepare starts"}]
    for more in ((), ("--follow",)):
        wrong = shop.azft("logs", "--latest", "--step", "train", *more)
        assert wrong.code == 3
        assert "finetune" in wrong.err
    assert shop.azft("logs", "--latest", "--step", "package", "--follow").code == 0


def test_at_a_terminal_the_steps_are_drawn_in_place(shop: Shop) -> None:
    result = azft_at_terminal("submit", cwd=shop.folder, columns=60, **shop.env)
    assert result.code == 0, result.plain
    assert "\x1b[" in result.out
    for step in ("prepare", "finetune", "evaluate", "package"):
        assert re.search(rf"{step} +done", result.plain)
    assert "step 1  loss 2.500" in result.plain
    assert result.out.count("\x1b[?25l") == result.out.count("\x1b[?25h")  # the cursor is given back


def test_a_dumb_terminal_gets_plain_lines(shop: Shop) -> None:
    result = azft_at_terminal("submit", "--follow", cwd=shop.folder, **{**shop.env, "TERM": "dumb"})
    assert result.code == 0
    assert "finetune | from step 0" in result.plain
    assert "\x1b" not in result.out
