"""Jobs come from Azure ML's own files, and go back to them: what azft writes, Microsoft's SDK submits without azft."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.world import OVER, Cloud, Person, name_of, wait_for
from tests.helpers.terminal import environment

pytestmark = pytest.mark.slow

JOB = {
    "$schema": "https://azuremlschemas.azureedge.net/latest/finetuningJob.schema.json",
    "type": "finetuning",
    "task": "chat_completion",
    "model_provider": "custom",
    "model": {"path": "azureml://registries/azureml/models/Phi-4-mini-instruct/versions/1", "type": "mlflow_model"},
    "training_data": "train.jsonl",
    "validation_data": "validation.jsonl",
    "hyperparameters": {"num_train_epochs": "1", "learning_rate": "0.0001", "per_device_train_batch_size": "4"},
    "display_name": "bread of the team",
    "tags": {"team": "bakery"},
    "outputs": {"registered_model": {"type": "mlflow_model", "name": "bread"}},
}
SDK = Path(__file__).parent / "sdk_submit.py"


def test_a_job_file_of_azures_own_is_carried_out_as_it_is(cloud: Cloud, person: Person) -> None:
    person.write("job.yml", yaml.safe_dump(JOB, sort_keys=False))
    done = person.azft("submit", "--from-azureml", "job.yml")
    run = name_of(done)
    assert run.startswith("bread-of-the-team-")
    (job,) = [job["properties"] for job in cloud.list("jobs") if job["name"] == run]
    details = job["fineTuningDetails"]
    assert (job["status"], job["displayName"]) == ("Completed", JOB["display_name"])
    assert details["hyperParameters"] == JOB["hyperparameters"]
    assert details["model"]["uri"].endswith("/Phi-4-mini-instruct/versions/1")
    assert job["tags"]["team"] == "bakery"
    assert "bread" in {model["name"] for model in cloud.list("models")}

    requests = cloud.during(lambda: person.azft("submit", "--from-azureml", "job.yml"))
    assert not [request for request in requests if request.startswith("PUT")]
    # A fault is found in the file itself, before anything is sent.
    person.write("wrong.yml", yaml.safe_dump({**JOB, "training_data": "nowhere.jsonl"}, sort_keys=False))
    refused = person.azft("submit", "--from-azureml", "wrong.yml", code=5)
    assert "wrong.yml:8" in refused.err
    assert "nowhere.jsonl" in refused.err


@pytest.mark.parametrize(("mode", "file"), [("maap", "pipeline.yml"), ("maas", "job.yml")])
def test_an_exported_job_is_submitted_without_azft(cloud: Cloud, person: Person, mode: str, file: str) -> None:
    asked = cloud.during(lambda: person.azft("export-azureml", "--mode", mode, "--out", "job"))
    assert asked == []
    moved = Path(shutil.move(person.folder / "job", person.folder / "elsewhere"))
    (person.folder / "train.jsonl").unlink()
    assert str(person.folder) not in (moved / file).read_text()

    before = set(cloud.jobs())
    submitted = subprocess.run(
        [sys.executable, str(SDK), file],
        cwd=moved,
        env=environment(**cloud.env, PYTHONPATH=os.devnull),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert submitted.returncode == 0, submitted.stderr
    name = submitted.stdout.split()[-1]
    assert set(cloud.jobs()) - before == {name}
    state = wait_for("the job's end", lambda: (s := cloud.jobs()[name]) in OVER and s)
    assert state == "Completed"
