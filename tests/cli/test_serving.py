"""`azft register`, `deploy`, `chat --endpoint`, `down` and `plan --check-remote`, over the emulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft.cli import render
from azft.cli.main import run as azft
from azft.errors import ExitCode
from tests.helpers.azure_runs import MODEL, SIZE, Azure, emulated


@pytest.fixture
def azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Azure]:
    with emulated(tmp_path, monkeypatch) as found:
        yield found


def read(capsys: pytest.CaptureFixture[str]) -> Any:
    """The JSON on standard output."""
    return json.loads(capsys.readouterr().out)


def test_from_a_run_to_an_endpoint_and_back(azure: Azure, capsys: pytest.CaptureFixture[str]) -> None:
    run = azure.completed("pipeline")
    assert azft(["register", run.name, "-o", "json"]) == ExitCode.DONE
    assert read(capsys)["reference"] == "linden:0123abcd"
    assert azft(["deploy", run.name, "--instance-type", SIZE, "-o", "json"]) == ExitCode.DONE
    endpoint = read(capsys)["name"]
    assert azft(["chat", "--endpoint", endpoint, "--prompt", "hello"]) == ExitCode.DONE
    assert capsys.readouterr().out == "you said: hello\n"
    assert azft(["chat", "--endpoint", endpoint, "--prompt", "hello", "-o", "json"]) == ExitCode.DONE
    assert read(capsys)["answer"] == "you said: hello"
    assert azft(["down", "--dry-run", "-o", "json"]) == ExitCode.DONE
    listed = read(capsys)
    assert [(item["kind"], item["name"], item["bills"]) for item in listed["items"]] == [("online", endpoint, True)]
    assert listed["outcomes"] == []
    assert azure.resources.get("online", endpoint) is not None
    assert azft(["down", run.name, "--yes", "-o", "json"]) == ExitCode.DONE
    assert [outcome["ended"] for outcome in read(capsys)["outcomes"]] == [True]
    assert azure.resources.all("online") == []
    assert azft(["down", run.name, "--yes", "-o", "json"]) == ExitCode.DONE, "twice is fine"
    assert read(capsys)["items"] == []


def test_a_model_of_another_task_is_asked_with_a_row(azure: Azure, capsys: pytest.CaptureFixture[str]) -> None:
    flavors = {"hftransformersv2": {"task_type": "question-answering"}}
    run = azure.completed("system-pipeline", described={"flavors": flavors})
    assert azft(["deploy", run.name, "--instance-type", SIZE, "-o", "json"]) == ExitCode.DONE
    endpoint = read(capsys)["name"]
    row = {"question": "Where?", "context": "In Rome."}
    assert azft(["chat", "--endpoint", endpoint, "--row", json.dumps(row)]) == ExitCode.DONE
    assert capsys.readouterr().out == "In Rome.\n"
    assert azft(["chat", "--endpoint", endpoint, "--row", json.dumps(row), "-o", "json"]) == ExitCode.DONE
    assert read(capsys) == {"row": row, "answer": "In Rome.", "told": {"answer": "In Rome."}}
    assert azft(["chat", "--endpoint", endpoint, "--prompt", "Where?"]) == ExitCode.USAGE
    assert "Give both: --row" in capsys.readouterr().err


def test_what_a_person_reads(azure: Azure, capsys: pytest.CaptureFixture[str]) -> None:
    run = azure.completed("pipeline")
    azft(["deploy", run.name, "--instance-type", SIZE])
    shown = capsys.readouterr()
    assert f"1 x {SIZE}" in shown.out
    assert "price unknown to azft" in shown.out
    assert "It bills by the hour for each instance, used or not. End it: azft down linden-0123abcd-" in shown.err
    assert "model linden:0123abcd: registered" in shown.err
    assert "deployment azft: Succeeded" in shown.err
    azft(["down", "--dry-run"])
    shown = capsys.readouterr()
    assert "online endpoint" in shown.out
    assert "billed by the hour for each instance, used or not" in shown.out
    assert "Nothing was ended (--dry-run)." in shown.err
    azft(["down", "--all", "--yes"])
    shown = capsys.readouterr()
    assert "asked to end" in shown.err
    assert "Nothing that azft started exists in azft-rehearsal." not in shown.out
    azft(["down", "--all", "--yes"])
    assert "Nothing that azft started exists in azft-rehearsal." in capsys.readouterr().out


def test_nothing_is_ended_unasked(
    azure: Azure, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = azure.completed("serverless-finetuning", mode="maas")
    azft(["deploy", run.name, "-o", "none"])
    assert azft(["down"]) == ExitCode.USAGE
    assert azft(["down", "--all"]) == ExitCode.USAGE, "nobody can be asked without a terminal"
    assert "--yes" in capsys.readouterr().err
    assert azft(["down", run.name, "--all"]) == ExitCode.USAGE
    assert len(azure.resources.all("serverless")) == 1
    monkeypatch.setattr("azft.cli.down.is_interactive", lambda: True)
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    assert azft(["down", "--all"]) == ExitCode.INTERRUPTED
    assert len(azure.resources.all("serverless")) == 1
    monkeypatch.setattr("click.confirm", lambda *_, **__: True)
    assert azft(["down", "--all"]) == ExitCode.DONE
    assert azure.resources.all("serverless") == []
    assert render.is_interactive() is False


def test_exit_codes(azure: Azure, capsys: pytest.CaptureFixture[str]) -> None:
    run = azure.completed("pipeline")
    assert azft(["register", "nobody"]) == ExitCode.NOT_FOUND
    assert azft(["down", "nobody", "--yes"]) == ExitCode.NOT_FOUND
    assert azft(["chat", "--endpoint", "nobody", "--prompt", "x"]) == ExitCode.NOT_FOUND
    assert azft(["deploy", run.name, "--instance-type", "Standard_DS3_v2"]) == ExitCode.CHECK_FAILED
    assert azft(["deploy", run.name, "--kind", "serverless"]) == ExitCode.USAGE
    azure.emu.settings = azure.emu.settings.changed({"run_seconds": 1e6})
    assert azft(["deploy", azure.running("pipeline", "linden-0000aaaa").name]) == ExitCode.JOB_FAILED
    azure.emu.settings = azure.emu.settings.changed({"quota": {"StandardNCADSA100v4Family": 1}})
    assert azft(["deploy", run.name, "--instance-type", SIZE]) == ExitCode.LIMIT
    azure.emu.settings = azure.emu.settings.changed({"quota": {}})
    azure.emu.faults.add("image-build-failed")
    assert azft(["deploy", run.name, "--instance-type", SIZE]) == ExitCode.JOB_FAILED
    assert "azft down linden-0123abcd-" in capsys.readouterr().err
    azure.emu.faults.add("server-error", method="DELETE", times=-1)
    assert azft(["down", "--all", "--yes"]) == ExitCode.FAILURE
    assert "NO" in capsys.readouterr().out


def test_the_plan_asks_the_account_when_it_is_told_to(
    azure: Azure, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    azure.plan("local")  # writes the recipe
    given = ["plan", "demo/recipe.yaml", "--mode", "maas", "--set", f"model={MODEL}"]
    assert azft([*given, "-o", "json"]) == ExitCode.DONE
    without = read(capsys)
    assert not any(finding["code"].startswith("remote-") for finding in without["findings"])
    assert azft([*given, "--check-remote", "--out", "plan.json", "-o", "json"]) == ExitCode.DONE
    asked = read(capsys)
    assert asked["hash"] == without["hash"]
    codes = {finding["code"] for finding in asked["findings"]}
    assert codes >= {"remote-identity", "remote-workspace", "remote-model", "remote-upload"}
    assert [upload["there"] for upload in asked["target"]["uploads"]] == [False, False]
    assert azft([*given, "--check-remote", "--set", "modes.maas.region=westus"]) == ExitCode.CHECK_FAILED


@pytest.mark.parametrize("command", ["register", "deploy", "down", "chat", "plan"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert azft([command, "--help"]) == ExitCode.DONE
    shown = capsys.readouterr().out
    assert f"$ azft {command}" in shown
    assert "--workspace" in shown


@pytest.mark.parametrize("command", [["runs", "--remote"], ["down", "--dry-run", "-o", "json"]])
def test_a_throttled_sign_in_says_that_it_waits(
    command: list[str], azure: Azure, capsys: pytest.CaptureFixture[str]
) -> None:
    azure.emu.faults.add("throttled", path="/identity/token", params={"retry_after": 30})
    assert azft(command) == ExitCode.DONE
    assert "Signing in: Azure asks to wait (429); waiting 30 s\n" in capsys.readouterr().err
