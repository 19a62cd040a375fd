"""The package's front: every public name is there, light, and keeps its meaning when modules of that name load."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

import azft
from azft import api
from azft.errors import NotFoundError, UsageError
from azft.runs import Run


def test_every_public_name_loads() -> None:
    for name in azft.__all__:
        assert getattr(azft, name) is not None
    assert set(azft.__all__) <= set(dir(azft))


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = azft.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["plan", "runs"])
def test_a_function_is_not_replaced_by_the_module_of_its_name(name: str) -> None:
    module = importlib.import_module(f"azft.{name}")
    assert inspect.ismodule(module)
    assert getattr(azft, name) is getattr(api, name)


def test_the_plan_and_runs_modules_stay_importable() -> None:
    from azft.plan import Plan
    from azft.runs import RunStore

    assert inspect.isclass(Plan)
    assert inspect.isclass(RunStore)


def test_every_function_of_the_api_says_what_it_does() -> None:
    for name, function in inspect.getmembers(api, inspect.isfunction):
        if function.__module__.startswith("azft.api.") and not name.startswith("_"):
            assert inspect.getdoc(function), name


def test_what_is_not_there_is_said_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert azft.runs() == []
    with pytest.raises(NotFoundError, match="no runs"):
        azft.get_run()
    with pytest.raises(NotFoundError):
        azft.cancel("nothing")
    with pytest.raises(NotFoundError):
        azft.load_plan(tmp_path / "plan.json")
    with pytest.raises(NotFoundError):
        azft.open_chat(tmp_path / "model")
    (tmp_path / "plan.json").write_text("[]")
    with pytest.raises(UsageError, match="no plan"):
        azft.load_plan(tmp_path / "plan.json")


@pytest.mark.parametrize("given", [None, 5, {"name": "a"}, b"recipe.yaml", []])
def test_what_is_no_recipe_is_said_to_be_none(given: Any) -> None:
    for function in (azft.load_recipe, azft.check, azft.preview, azft.plan, azft.submit):
        with pytest.raises(UsageError, match=f"path of its file.*of type {type(given).__name__}"):
            function(given)


@pytest.mark.parametrize("given", [5, Path("run"), {}, [], None])
def test_what_is_no_run_is_said_to_be_none(given: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for function in (azft.cancel, azft.resume, azft.summarize, azft.register, azft.deploy, azft.download, azft.refresh):
        with pytest.raises(UsageError, match=r"run (is its name|was given)"):
            function(given)


def test_a_run_that_was_found_already_is_that_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "run-1")
    assert azft.get_run(run) is run


def test_outputs_of_a_run_on_this_machine_need_no_workspace_to_be_brought_from(tmp_path: Path) -> None:
    run = Run(tmp_path / "run-1")
    for function in (azft.download, azft.remote_outputs):
        with pytest.raises(UsageError, match=r"run-1 are on this machine") as raised:
            function(run)
        assert "run.outputs()" in raised.value.fix


def test_a_plan_for_another_mode_is_not_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = azft.plan(azft.init("demo").recipe)
    with pytest.raises(UsageError, match="is for mode local, not maap"):
        azft.submit(plan, mode="maap")
    assert azft.runs() == []


def test_a_folder_to_chat_with_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    with pytest.raises(NotFoundError, match=r"open_chat\(Path\('model'\)\)"):
        azft.open_chat("model")


def test_a_preview_of_no_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least one row, not -1"):
        azft.preview(azft.init(tmp_path).recipe, rows=-1)


def test_check_reports_a_model_that_does_not_exist_beside_the_datas_findings(tmp_path: Path) -> None:
    scaffold = azft.init(tmp_path, model="Phi-4-mini-instrukt")
    (tmp_path / "train.jsonl").write_text('{"messages": []}\n')
    report = azft.check(scaffold.recipe)
    codes = {finding.code for finding in report.findings if finding.severity == "error"}
    assert "model-unknown" in codes
    assert len(codes) > 1
