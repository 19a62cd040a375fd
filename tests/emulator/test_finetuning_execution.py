"""A fine-tuning job is carried out by the trainer's command line, and its model is registered once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.ai.ml import Input, Output
from azure.ai.ml.entities import Data
from azure.ai.ml.entities._job.finetuning.custom_model_finetuning_job import CustomModelFineTuningJob

from azft.emulator import Emulator, Settings, references, registry
from tests.helpers import azure_sdk
from tests.helpers.toy_jobs import ToyJobs

TRAINER = """
import json, pathlib, sys, time
values = dict(zip(sys.argv[1::2], sys.argv[2::2]))
file, out = pathlib.Path(values["--job"]), pathlib.Path(values["--output"])
job = json.loads(file.read_text())
control = pathlib.Path(sys.argv[0]).parent
mark = file.parent / "work" / "mark.txt"
mark.parent.mkdir(exist_ok=True)
done = int(mark.read_text()) if mark.exists() else 0
print("from", done, flush=True)
for step in range(done + 1, 9):
    mark.write_text(str(step))
    print(f"step {step}/8", flush=True)
    if (control / "slow").exists():
        time.sleep(0.1)
    while (control / "hold").exists():
        time.sleep(0.02)
if "bad" in job["hyperparameters"]:
    print("UserError: Invalid hyperparameters: bad: not supported.", flush=True)
    sys.exit(1)
out.mkdir(exist_ok=True)
word = pathlib.Path(job["model"], "word.txt").read_text()
(out / "word.txt").write_text(word + pathlib.Path(job["train"]).read_text() + json.dumps(job["hyperparameters"]))
"""


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyJobs]:
    (tmp_path / "trainer.py").write_text(TRAINER)
    settings = Settings(executor="run", trainer_command=(sys.executable, str(tmp_path / "trainer.py")))
    emulator = Emulator(settings=settings)
    with emulator.in_process():
        azure_sdk.lead(emulator, monkeypatch)
        toys = ToyJobs(tmp_path / "toys", emulator)
        toys.control = tmp_path
        weights = tmp_path / "weights"
        weights.mkdir()
        (weights / "word.txt").write_text("base ")
        registry.seed_model(emulator, "azureml", "Phi", "1", weights)
        rows = tmp_path / "rows.jsonl"
        rows.write_text("rows ")
        toys.client.data.create_or_update(Data(name="rows", version="1", path=str(rows), type="uri_file"))
        yield toys
    emulator.stop()


def job(name: str, **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "task": "ChatCompletion",
        "model": Input(type="mlflow_model", path="azureml://registries/azureml/models/Phi/versions/1"),
        "training_data": Input(type="uri_file", path="azureml:rows:1"),
        "validation_data": None,
        "hyperparameters": {"num_train_epochs": "1"},
        "name": name,
        "experiment_name": "tunes",
        "display_name": "tune",
        "tags": {"azft.run": name},
        "outputs": {"registered_model": Output(type="mlflow_model", name="tuned")},
    }
    return CustomModelFineTuningJob(**{**fields, **changes})


def log(toys: ToyJobs, name: str) -> str:
    path = f"ExperimentRun/dcid.{name}/user_logs/std_log.txt"
    return toys.emu.blob_path("azftrehearsal", "azureml", path).read_text()


def test_the_model_of_a_job_is_registered_under_its_name(toys: ToyJobs) -> None:
    toys.client.jobs.create_or_update(job("one"))
    assert toys.ended("one") == "Completed"
    model = toys.client.models.get("tuned", label="latest")
    assert (model.version, model.type, model.tags) == ("1", "mlflow_model", {"azft.run": "one"})
    made = references.folder(toys.emu, "azureml:tuned:1", "models") / "word.txt"
    assert made.read_text() == 'base rows {"num_train_epochs": "1"}'
    assert toys.client.jobs.get("one").outputs["registered_model"].name == "tuned"
    assert "user_logs/std_log.txt" in toys.details("one").log_files
    toys.client.jobs.create_or_update(job("two"))
    assert toys.ended("two") == "Completed"
    assert toys.client.models.get("tuned", label="latest").version == "2"


def test_a_preempted_job_goes_on_beside_its_job_file(toys: ToyJobs) -> None:
    toys.emu.faults.add("node-preempted", params={"step": 3})
    (toys.control / "slow").touch()
    toys.client.jobs.create_or_update(job("one"))
    assert toys.ended("one") == "Completed"
    begun = [int(line.split()[1]) for line in log(toys, "one").splitlines() if line.startswith("from ")]
    assert begun[0] == 0
    assert 3 <= begun[1] < 8
    assert toys.client.models.get("tuned", label="latest").version == "1"


def test_a_refused_hyperparameter_fails_the_job_in_the_services_words(toys: ToyJobs) -> None:
    toys.client.jobs.create_or_update(job("one", hyperparameters={"bad": "1"}))
    assert toys.ended("one") == "Failed"
    error = toys.details("one").error.error
    assert "Invalid hyperparameters: bad: not supported." in error.message
    assert not list(toys.client.models.list("tuned"))


def test_what_is_not_there_fails_the_job(toys: ToyJobs) -> None:
    model = Input(type="mlflow_model", path="azureml://registries/azureml/models/Nothing/versions/1")
    toys.client.jobs.create_or_update(job("one", model=model))
    assert toys.ended("one") == "Failed"
    assert "Nothing" in toys.details("one").error.error.message


def test_cancel_ends_the_trainer(toys: ToyJobs) -> None:
    (toys.control / "hold").touch()
    toys.client.jobs.create_or_update(job("one"))
    toys.until((toys.emu.state.root / "nodes" / "one" / "work" / "mark.txt").exists)
    toys.client.jobs.begin_cancel("one").result()
    assert toys.ended("one") == "Canceled"
    (toys.control / "hold").unlink()
    assert "step 8" not in log(toys, "one")
    assert json.loads((toys.emu.state.root / "nodes" / "one" / "job.json").read_text())["task"] == "chatCompletion"
