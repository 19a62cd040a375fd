"""What `azft runs` and `azft status` show of a run, from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from azft.azureml.resources import Resource
from azft.azureml.watching import mark_submitted
from azft.cli import results
from azft.cli.render import write
from azft.files import write_json
from azft.run_summary import summarize
from azft.runs import RunStore

PLANNED = "2026-11-20T08:00:00+00:00"
PLAN = {"mode": "local", "hash": "1", "created": PLANNED, "model": {"kind": "folder", "description": "a model"}}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / ".azft")


def test_a_run_of_this_machine_started_when_its_first_attempt_did(store: RunStore) -> None:
    run = store.create("toy-1", plan=PLAN, recipe={})
    assert summarize(run).started is None
    first = run.add_event({"event": "run-started", "time": "2026-11-24T03:40:00.000+00:00"})
    run.add_event({"event": "run-started", "time": "2026-11-24T05:00:00.000+00:00"})  # it was resumed
    assert (summarize(run).started, summarize(run).created) == (first["time"], PLANNED)


def test_a_run_in_azure_started_when_azure_took_its_first_job(store: RunStore) -> None:
    azure: dict[str, Any] = {"workspace": "w", "job": "toy-1", "studio_url": None, "submitted_at": None}
    run = store.create("toy-1", plan={**PLAN, "mode": "maap"}, recipe={}, azure=azure)
    assert summarize(run).started is None
    for name, created in (("toy-1", "2026-11-24T03:40:00Z"), ("toy-1-r1", "2026-11-24T05:00:00Z")):
        mark_submitted(run, Resource("job", (name,), created=created))
    assert summarize(run).started == "2026-11-24T03:40:00Z"
    assert run.azure["submitted_at"] == "2026-11-24T05:00:00Z"


def test_a_registrys_model_is_shown_with_its_version_once_that_is_known(
    store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = "azureml://registries/azureml/models/Phi-4-mini-instruct"
    model = {"kind": "registry", "description": f"{registry}/labels/latest"}
    azure: dict[str, Any] = {"workspace": "w", "job": "toy-1", "studio_url": "https://studio", "submitted_at": None}
    run = store.create("toy-1", plan={**PLAN, "mode": "maap", "steps": [], "model": model}, recipe={}, azure=azure)
    write_json(run.folder / "mirror.json", {"refreshed": "2026-11-24T03:40:12.345+00:00"})
    for known, said in ((None, "the newest version"), ("7", "version 7")):
        if known is not None:
            write_json(run.folder / "azure.json", {**azure, "model": f"{registry}/versions/{known}"})
        summary = summarize(run)
        assert summary.model == f"{registry}/{'labels/latest' if known is None else 'versions/7'}"
        write(results.view(summary))
        shown = capsys.readouterr().out
        assert f"Phi-4-mini-instruct, {said} in the registry azureml" in shown
        assert "labels/latest" not in shown
        for row in ("maap: machines of your Azure ML workspace", "studio     https://studio", "2026-11-24 03:40 UTC"):
            assert row in shown
        assert f"Phi-4-mini-instruct, {said} in the registry azureml" in run._repr_html_()


def test_a_folder_that_is_uploaded_is_shown_as_the_folder(store: RunStore) -> None:
    azure = {"workspace": "w", "job": "toy-1", "studio_url": None, "model": "azureml:azft-model-1:1"}
    run = store.create("toy-1", plan={**PLAN, "mode": "maap"}, recipe={}, azure=azure)
    assert summarize(run).model == "a model"
