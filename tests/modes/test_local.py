"""Local mode, end to end with toy steps: what runs is the PipelineJob, once per plan, and nothing is lost on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azft.errors import FindingsError, JobFailedError, StalePlanError
from azft.findings import Finding, Severity
from azft.modes.local import LocalMode
from azft.runs import RunState
from tests.helpers.toy import Toy, toy  # noqa: F401 - the fixture

ALL = ["prepare", "finetune", "evaluate", "package"]


@pytest.fixture
def mode(toy: Toy) -> LocalMode:
    return LocalMode(toy.root)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def test_a_plan_runs_to_its_outputs(toy: Toy, mode: LocalMode) -> None:
    events: list[dict[str, Any]] = []
    run = mode.submit(mode.plan(toy.recipe()), on_event=events.append)
    assert run.state is RunState.COMPLETED
    assert toy.starts() == ALL
    assert set(run.outputs()) == {"packaged", "evaluation", "trained", "checkpoints", "metrics"}
    assert (run.outputs()["packaged"] / "result.txt").read_text().startswith("package(finetune(prepare(")
    assert [event["event"] for event in events if event["event"].startswith("run")] == ["run-started", "run-finished"]
    assert {"event": "metrics", "step": "finetune", "metrics": {"step": 1, "loss": 2.5}} in events
    assert {"event": "log", "step": "prepare", "line": "prepare starts"} in events
    assert run.metrics()[0] == [{"step": 1, "loss": 2.5}]
    assert run.log("prepare")[0] == ["prepare starts"]
    assert run.environment["python"] == sys.version.split()[0]
