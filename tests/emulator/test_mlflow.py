"""azureml-mlflow, as it comes, logs to the emulator over TLS: as in a step of a job, and as on a laptop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft.emulator import Emulator, Settings, run_documents, step_process
from azft.emulator.settings import ACCOUNT
from azft.emulator.workspace import resource_id

IN_A_STEP = """
import json, os
run_id = os.environ["MLFLOW_RUN_ID"]  # mlflow takes it away once it has adopted the run
from azft.training.tracking import Mirror
mirror = Mirror.from_environment()
for step in (1, 2, 3):
    mirror.log({"loss": 3.0 / step, "learning_rate": 0.1}, step)
mirror.close()
import mlflow
mlflow.log_param("rank", 16)
mlflow.set_tag("who", "me")
mlflow.log_metric("loss", 0.5, step=4)
with open("note.txt", "w") as file:
    file.write("a note")
mlflow.log_artifact("note.txt", "notes")
client = mlflow.MlflowClient()
run = client.get_run(run_id)
history = client.get_metric_history(run.info.run_id, "loss")
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
files = get_artifact_repository(run.info.artifact_uri)  # the client itself first asks for logged models
print(json.dumps({
    "metrics": run.data.metrics, "params": run.data.params, "status": run.info.status, "who": run.data.tags["who"],
    "history": [[point.step, point.value] for point in history],
    "artifacts": [entry.path for entry in files.list_artifacts("notes")],
}))
"""
ON_A_LAPTOP = """
import json, sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("laptops")
with mlflow.start_run(run_name="by-hand", tags={"kind": "test"}) as run:
    mlflow.log_metrics({"loss": 1.0, "accuracy": 0.25}, step=1)
    mlflow.log_params({"a": 1, "b": "two"})
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name("laptops")
found = client.search_runs([experiment.experiment_id], "tags.kind = 'test' and metrics.loss >= 1 and params.b = 'two'")
none = client.search_runs([experiment.experiment_id], "metrics.accuracy > 0.5")
print(json.dumps({
    "status": client.get_run(run.info.run_id).info.status, "found": [run.info.run_name for run in found],
    "none": len(none), "names": [experiment.name for experiment in client.search_experiments()],
}))
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator(settings=Settings(executor="none")) as emulator:
        yield emulator


def python(script: str, folder: Path, variables: dict[str, str], *arguments: str) -> dict[str, Any]:
    """The JSON that a script prints, run in a process of its own with nothing but these variables."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return found


def test_a_step_logs_to_its_run(emulator: Emulator, tmp_path: Path) -> None:
    run = run_documents.create(
        emulator, "run-1", kind="azureml.StepRun", experiment="toys", display_name="finetune", status="Running"
    )
    seen = python(IN_A_STEP, tmp_path / "wd", step_process.run_variables(emulator, run))
    assert seen == {
        "metrics": {"loss": 0.5, "learning_rate": 0.1},
        "params": {"rank": "16"},
        "status": "RUNNING",
        "who": "me",
        "history": [[1, 3.0], [2, 1.5], [3, 1.0], [4, 0.5]],
        "artifacts": ["notes/note.txt"],
    }
    # Uploaded through a SAS; azureml-mlflow downloads from Azure's own hosts only.
    note = emulator.blob_path(ACCOUNT, "azureml", "ExperimentRun/dcid.run-1/notes/note.txt")
    assert note.read_text() == "a note"
    assert run_documents.find(emulator, "run-1")["status"] == "Running"  # type: ignore[index]
    # All of it went to the emulator: nothing asked Azure's public address.
    assert {entry["status"] for entry in emulator.log.list() if "/mlflow/" in entry["path"]} == {200}


def test_a_laptop_makes_and_finds_its_own_runs(emulator: Emulator, tmp_path: Path) -> None:
    host = emulator.url.partition("://")[2]
    uri = f"azureml://{host}/mlflow/v2.0{resource_id(emulator)}"
    variables = {**emulator.environment(), "AZUREML_CURRENT_CLOUD": "AzureCloud"}
    seen = python(ON_A_LAPTOP, tmp_path / "wd", variables, uri)
    assert seen["status"] == "FINISHED"
    assert (seen["found"], seen["none"]) == (["by-hand"], 0)
    assert "laptops" in seen["names"]
