"""`azft plan`, `submit --dry-run` and `export-azureml` for Azure: without an account, a network or the SDK's import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from azft.cli.main import run
from azft.plan import Plan
from tests.helpers.azure_recipes import MODES, SECTIONS, azure_recipe


def recipe(folder: Path, target: str, **changes: Any) -> str:
    return str(azure_recipe(folder, target, **changes).path)


@pytest.mark.parametrize("target", SECTIONS)
def test_a_plan_is_shown(tmp_path: Path, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", recipe(tmp_path, target), "--mode", MODES[target]]) == 0
    shown = capsys.readouterr().out
    for words in (MODES[target], "azft-data-", "What is billed", "training: ", "Phi-4-mini-instruct", "azft submit"):
        assert words in shown
    if target.startswith("azft"):
        assert "prepare, finetune, evaluate, package" in shown
        assert "epochs=3" in shown
    else:
        assert "num_train_epochs" in shown
        assert "registered as sums" in shown


def test_errors_are_exit_code_5_and_have_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, "maas", model="Phi-3-mini-4k-instruct")
    assert run(["plan", path, "--mode", "maas", "-o", "json"]) == 5
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(f["code"], f["line"]) for f in found if f["severity"] == "error"] == [("azure-model-retired", 3)]


def test_the_payload_is_printed_to_the_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, "maas")
    assert run(["plan", path, "--mode", "maas", "--payload"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["properties"]["jobType"] == "FineTuning"
    assert captured.err == ""
    query = ["--query", "properties.fineTuningDetails.taskType"]
    assert run(["plan", path, "--mode", "maas", "--payload", *query]) == 0
    assert capsys.readouterr().out == '"chatCompletion"\n'


def test_a_local_run_has_no_payload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", recipe(tmp_path, "maas"), "--payload"]) == 2
    assert "--mode maas or maap" in capsys.readouterr().err


def test_a_dry_run_shows_plan_and_payload_and_asks_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, "azft")
    assert run(["submit", path, "--mode", "maap", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert "Payload: a PipelineJob of" in captured.out
    assert "Nothing was sent" in captured.err
    assert run(["submit", path, "--mode", "maap", "--dry-run", "-o", "json"]) == 0
    summary = json.loads(capsys.readouterr().out)["payload"]
    assert summary["kind"] == "PipelineJob"
    assert summary["bytes"] > 1000


def test_a_plan_without_its_data_says_so_and_has_no_payload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, "maas", data={"train": "gone.jsonl"})
    assert run(["submit", path, "--mode", "maas", "--dry-run"]) == 5
    assert "azft submit" not in capsys.readouterr().out  # there is nothing to send
    assert run(["submit", path, "--mode", "maas", "--dry-run", "-o", "json"]) == 5
    assert "gone.jsonl" in capsys.readouterr().out
    assert run(["plan", path, "--mode", "maas", "--payload"]) == 5
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "gone.jsonl" in captured.err


def test_a_saved_plan_is_refused_when_the_recipe_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, "maas")
    saved = str(tmp_path / "plan.json")
    assert run(["plan", path, "--mode", "maas", "--out", saved]) == 0
    assert run(["submit", saved, "--dry-run"]) == 0
    with Path(path).open("a") as file:
        file.write("description: another\n")
    capsys.readouterr()
    assert run(["plan", saved]) == 2
    assert f"azft submit {saved}" in capsys.readouterr().err
    assert run(["submit", saved, "--dry-run"]) == 3
    assert "stale" in capsys.readouterr().err


def test_a_mode_that_the_file_does_not_have_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved, exported = str(tmp_path / "plan.json"), tmp_path / "out"
    path = recipe(tmp_path, "maas")
    assert run(["plan", path, "--mode", "maas", "--out", saved]) == 0
    assert run(["export-azureml", path, "--mode", "maas", "--out", str(exported)]) == 0
    for source in ([saved], ["--from-azureml", str(exported / "job.yml")]):
        assert run(["submit", *source, "--mode", "maas", "--dry-run"]) == 0
        capsys.readouterr()
        assert run(["submit", *source, "--mode", "maap", "--dry-run"]) == 2
        assert "is for mode maas, not maap" in capsys.readouterr().err


def test_a_job_file_is_planned_and_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported = tmp_path / "out"
    assert run(["export-azureml", recipe(tmp_path, "maas"), "--mode", "maas", "--out", str(exported)]) == 0
    captured = capsys.readouterr()
    assert "job.yml" in captured.out
    assert "az ml job create" in captured.err
    job = str(exported / "job.yml")
    assert run(["plan", "--from-azureml", job]) == 0
    assert f"azft submit --from-azureml {job}" in capsys.readouterr().out
    assert run(["submit", "--from-azureml", job, "--dry-run"]) == 0
    assert run(["submit", "--from-azureml", job, "--set", "a=b", "--dry-run"]) == 2
    capsys.readouterr()
    assert run(["plan", "--from-azureml", f"{job}.gone"]) == 2
    assert "No such file or directory." in capsys.readouterr().err
    assert run(["export-azureml", recipe(tmp_path, "maas"), "--mode", "maas", "--out", str(exported)]) == 2


def test_the_command_that_is_shown_carries_out_this_plan_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, "azft")
    change = "modes.maap.pipeline=system"
    assert run(["plan", path, "--mode", "maap", "--set", change]) == 0
    shown = capsys.readouterr().out
    assert f"--mode maap --set {change}" in " ".join(shown.split())


FAILING: list[tuple[dict[str, Any], list[str], int]] = [
    ({"model": "no-such-model"}, [], 2),
    ({"technique": {"name": "lorra"}}, [], 2),
    ({}, ["--set", "training.epochs=0"], 2),
    ({}, ["--from-azureml", "none.yml"], 2),
]


@pytest.mark.parametrize(("changes", "more", "code"), FAILING)
def test_a_plan_that_fails_says_that_an_older_one_is_still_in_its_file(
    tmp_path: Path,
    changes: dict[str, Any],
    more: list[str],
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "plan.json"
    path = recipe(tmp_path, "azft")
    assert run(["plan", path, "--mode", "maap", "--out", str(out)]) == 0
    older = Plan.from_json(out.read_bytes())
    assert f"Saved the plan of {older.run_name} (maap) as {out}." in capsys.readouterr().err
    text = Path(path).read_text()
    for key, value in changes.items():
        kept = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
        text = "\n".join([*kept, f"{key}: {json.dumps(value)}", ""])
    Path(path).write_text(text)
    assert run(["plan", path, "--mode", "maas", "--out", str(out), *more]) == code
    shown = capsys.readouterr().err
    assert f"{out} still holds the older plan of {older.run_name} (maap): nothing was saved." in shown
    assert Plan.from_json(out.read_bytes()) == older


def test_a_plan_with_errors_is_saved_and_not_said_to_be_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plan.json"
    path = recipe(tmp_path, "maas", model="Phi-3-mini-4k-instruct")
    assert run(["plan", path, "--mode", "maas", "--out", str(out)]) == 5
    assert Plan.from_json(out.read_bytes()).has_errors
    shown = capsys.readouterr().err
    assert "Its errors stand in the way of carrying it out." in shown
    assert "azft submit" not in shown


def test_a_file_that_holds_no_plan_is_not_spoken_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "notes.txt"
    out.write_text("mine")
    assert run(["plan", recipe(tmp_path, "azft", model="no-such-model"), "--out", str(out)]) == 2
    assert "still holds" not in capsys.readouterr().err
    assert out.read_text() == "mine"
