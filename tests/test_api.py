"""The package's front: every public name is there, light, and keeps its meaning when modules of that name load."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import azft
from azft import api
from azft.errors import NotFoundError, UsageError


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


def test_check_reports_a_model_that_does_not_exist_beside_the_datas_findings(tmp_path: Path) -> None:
    scaffold = azft.init(tmp_path, model="Phi-4-mini-instrukt")
    (tmp_path / "train.jsonl").write_text('{"messages": []}\n')
    report = azft.check(scaffold.recipe)
    codes = {finding.code for finding in report.findings if finding.severity == "error"}
    assert "model-unknown" in codes
    assert len(codes) > 1
