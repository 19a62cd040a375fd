"""metrics.jsonl holds every step once after a resume; MLflow mirrors it and can neither slow nor stop a training."""

from __future__ import annotations

import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import orjson
import pytest

from azft.training import tracking
from azft.training.metrics import Metrics, duration


def steps(folder: Path) -> list[int]:
    return [orjson.loads(line)["step"] for line in (folder / "metrics.jsonl").read_bytes().splitlines()]


def test_resuming_takes_out_later_steps_and_a_torn_line(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    for step in range(1, 6):
        metrics.log({"step": step, "loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 6, "lo')
    again = Metrics(tmp_path)
    again.resume_after(3)
    again.log({"step": 4, "loss": 2.0})
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_other_ranks_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = Metrics(tmp_path / "metrics", enabled=False)
    metrics.log({"step": 1})
    metrics.say("nothing")
    metrics.flush()
    assert not (tmp_path / "metrics").exists()
    assert capsys.readouterr().out == ""


def test_durations_read_like_a_clock() -> None:
    assert [duration(s) for s in (0, 59.6, 61, 3723)] == ["0:00", "1:00", "1:01", "1:02:03"]


def test_without_the_variable_mlflow_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_mlflow(monkeypatch, lambda *_: None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert Metrics(tmp_path).mirror is None


def fake_mlflow(monkeypatch: pytest.MonkeyPatch, log_batch: Any) -> None:
    """The few names of mlflow that the mirror uses."""
    mlflow: Any = types.ModuleType("mlflow")
    entities: Any = types.ModuleType("mlflow.entities")
    entities.Metric = lambda key, value, timestamp, step: (key, value, step)
    mlflow.entities = entities
    mlflow.ended = []
    mlflow.MlflowClient = lambda: types.SimpleNamespace(log_batch=log_batch, set_terminated=mlflow.ended.append)
    mlflow.active_run = lambda: None
    mlflow.start_run = lambda: types.SimpleNamespace(info=types.SimpleNamespace(run_id="run-of-its-own"))
    mlflow.__spec__ = types.SimpleNamespace(name="mlflow")
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "azureml://somewhere")
    monkeypatch.setenv("MLFLOW_RUN_ID", "run-1")


def test_the_mirror_gets_the_numbers_of_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    fake_mlflow(monkeypatch, lambda run_id, metrics: seen.append((run_id, metrics)))
    metrics = Metrics(tmp_path)
    metrics.log({"step": 3, "loss": 0.5, "note": "text"})
    metrics.close()
    assert seen == [("run-1", [("loss", 0.5, 3)])]


@pytest.mark.parametrize(("given", "ended"), [("run-1", []), (None, ["run-of-its-own"])])
def test_only_a_run_that_the_mirror_started_is_ended_by_it(
    given: str | None, ended: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    fake_mlflow(monkeypatch, lambda run_id, _: seen.append(run_id))
    if given is None:
        monkeypatch.delenv("MLFLOW_RUN_ID")
    metrics = Metrics(tmp_path)
    metrics.log({"step": 1, "loss": 0.5})
    metrics.close()
    assert seen == [given or "run-of-its-own"]
    assert sys.modules["mlflow"].ended == ended  # type: ignore[attr-defined]


def test_a_server_that_fails_or_hangs_does_not_disturb_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        raise ConnectionError("secret-token in the address")

    fake_mlflow(monkeypatch, fails)
    failing = Metrics(tmp_path)
    for step in range(20):
        failing.log({"step": step, "loss": 1.0})
    failing.close()
    said = capsys.readouterr().err
    assert said == "warning: metrics are not mirrored to MLflow any more (ConnectionError); training goes on\n"

    release = threading.Event()
    fake_mlflow(monkeypatch, lambda *_: release.wait())
    monkeypatch.setattr(tracking, "_CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(tracking, "_QUEUE", 2)
    hanging = Metrics(tmp_path)
    began = time.perf_counter()
    for step in range(50):
        hanging.log({"step": step, "loss": 1.0})
    hanging.close()
    assert time.perf_counter() - began < 5
    release.set()
