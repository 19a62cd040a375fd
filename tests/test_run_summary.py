"""What `azft runs` and `azft status` show of a run, from its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from azft.azureml.resources import Resource
from azft.azureml.watching import mark_submitted
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
