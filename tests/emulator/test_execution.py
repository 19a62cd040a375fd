"""A pipeline job runs from the bytes that came over the wire, on the blob store, and ends as Azure would end it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from azft.emulator import Emulator, Settings, compute
from azft.emulator.settings import ACCOUNT, CONTAINER
from tests.emulator.nested_pipeline import nested_pipeline
from tests.helpers import azure_sdk
from tests.helpers.toy_jobs import ToyJobs

PLACE = "azureml://datastores/workspaceblobstore/paths/azft/runs/one/checkpoints"


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator without a socket that executes what it gets."""
    emulator = Emulator(settings=Settings(executor="run"))
    with emulator.in_process():
        azure_sdk.lead(emulator, monkeypatch)
        yield emulator
    emulator.stop()


@pytest.fixture
def toys(running: Emulator, tmp_path: Path) -> ToyJobs:
    return ToyJobs(tmp_path / "toys", running)


def blob(toys: ToyJobs, path: str) -> Path:
    return toys.emu.blob_path(ACCOUNT, CONTAINER, path)


def test_the_steps_run_and_their_outputs_lie_in_the_blob_store(toys: ToyJobs) -> None:
    toys.submit("one")
    (toys.folder / "code" / "main.py").unlink()  # what was uploaded is what runs
    (toys.folder / "data.txt").unlink()
    assert toys.ended("one") == "Completed"
    assert blob(toys, "azureml/one/second/result.txt").read_text() == "HELLO !"
    job = toys.client.jobs.get("one")
    assert job.outputs["second"].path == "azureml://datastores/workspaceblobstore/paths/azureml/one/second/"
    children = toys.children("one")
    assert {name: child.status for name, child in children.items()} == {"first": "Completed", "second": "Completed"}
    log = toys.details(children["first"].name).log_files["user_logs/std_log.txt"]
    assert "sig=" in log


def test_a_step_sees_a_node_and_nothing_of_the_emulator(toys: ToyJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-secret-value")
    toys.submit("one")
    assert toys.ended("one") == "Completed"
    seen = json.loads((toys.control / "environment.json").read_text())
    assert seen["AZUREML_RUN_ID"] == toys.children("one")["second"].name
    assert seen["AZUREML_ROOT_RUN_ID"] == "one"
    assert not [name for name in seen if name.startswith(("AZFT_", "IDENTITY_", "AZURE_"))]
    assert "HF_TOKEN" not in seen
    assert "WORD" not in seen  # the first step's own


def test_the_steps_of_a_pipeline_within_the_pipeline_run(toys: ToyJobs) -> None:
    job = nested_pipeline(toys.folder, toys.control)
    job.name = "one"
    toys.client.jobs.create_or_update(job)
    assert toys.ended("one") == "Completed"
    for output in ("part", "all"):
        assert blob(toys, f"azureml/one/{output}/result.txt").read_text() == "HELLO !"
    states = {name: child.status for name, child in toys.children("one").items()}
    assert states == dict.fromkeys(("node/made", "node/again", "last"), "Completed")


def test_a_failed_step_tells_the_services_error_and_the_job_which_step(toys: ToyJobs) -> None:
    (toys.control / "fail").touch()
    toys.submit("one")
    assert toys.ended("one") == "Failed"
    children = toys.children("one")
    assert list(children) == ["first"]  # the second was never begun
    error = toys.details(children["first"].name).error
    assert error.error.code == "UserError"
    assert "exited with status code 3" in error.error.message
    assert "it was told to fail" in error.error.message
    assert error.correlation["request"]
    parent = toys.details("one").error.error
    assert "Failed nodes: /first" in parent.message
    assert parent.inner_error.code == "PipelineHasStepJobFailed"


def test_cancel_ends_the_processes(toys: ToyJobs) -> None:
    (toys.control / "hold").touch()
    toys.submit("one")
    toys.until(lambda: toys.starts() == 1)
    process = int((toys.control / "starts.txt").read_text().split()[1])
    toys.client.jobs.begin_cancel("one").result()
    assert toys.ended("one") == "Canceled"
    assert not Path(f"/proc/{process}").exists()
    assert toys.children("one")["first"].status == "Canceled"


def test_a_preempted_step_goes_on_from_its_output_on_another_node(toys: ToyJobs) -> None:
    toys.emu.faults.add("node-preempted", where={"step": "first"}, params={"step": 3})
    (toys.control / "slow").touch()
    toys.submit("one", count=12, destination=PLACE)
    assert toys.ended("one") == "Completed"
    assert blob(toys, "azft/runs/one/checkpoints/mark.txt").read_text() == "12"
    child = toys.children("one")["first"].name
    log = toys.emu.blob_path(ACCOUNT, "azureml", f"ExperimentRun/dcid.{child}/user_logs/std_log.txt").read_text()
    resumed = [int(line.split()[1]) for line in log.splitlines() if line.startswith("from ")]
    assert resumed[0] == 0
    assert 3 <= resumed[1] < 12
    assert "preempted" in log
    steps = [json.loads(line)["step"] for line in blob(toys, "azft/runs/one/checkpoints/metrics.jsonl").open()]
    assert steps == sorted(set(steps))


def test_what_was_running_goes_on_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(tmp_path / "state", settings=Settings(executor="run")) as emulator:
        azure_sdk.lead(emulator, monkeypatch)
        toys = ToyJobs(tmp_path / "toys", emulator)
        (toys.control / "hold").touch()
        toys.submit("one", count=3)
        toys.until(lambda: toys.starts() == 1)
        child = toys.children("one")["first"].name
        process = int((toys.control / "starts.txt").read_text().split()[1])
    assert not Path(f"/proc/{process}").exists()
    (toys.control / "hold").unlink()
    with Emulator(tmp_path / "state", settings=Settings(executor="run")) as emulator:
        azure_sdk.lead(emulator, monkeypatch)
        toys = ToyJobs(tmp_path / "toys", emulator)
        assert toys.ended("one") == "Completed"
        assert toys.children("one")["first"].name == child
        assert blob(toys, "azureml/one/first/mark.txt").read_text() == "3"
        assert toys.starts() == 3


KILLED = """
import json, pathlib, sys, time
from azft.emulator import Emulator, Settings
with Emulator(pathlib.Path(sys.argv[1]), settings=Settings(executor="run")) as emulator:
    print(json.dumps([emulator.url, emulator.environment()]), flush=True)
    time.sleep(600)
"""


def test_after_a_kill_of_the_emulator_one_process_at_a_time_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url, environment = json.loads(process.stdout.readline())
    try:
        far: Any = SimpleNamespace(url=url, settings=Settings(), environment=lambda: environment)
        azure_sdk.lead(far, monkeypatch)
        toys = ToyJobs(tmp_path / "toys", far)
        (toys.control / "hold").touch()
        toys.submit("one", count=3)
        toys.until(lambda: toys.starts() == 1)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    first = int((toys.control / "starts.txt").read_text().split()[1])
    with Emulator(tmp_path / "state", settings=Settings(executor="run")) as emulator:
        azure_sdk.lead(emulator, monkeypatch)
        toys = ToyJobs(tmp_path / "toys", emulator)
        toys.until(lambda: toys.starts() == 2)
        assert not Path(f"/proc/{first}").exists()
        (toys.control / "hold").unlink()
        assert toys.ended("one") == "Completed"


def test_an_equal_step_is_reused_and_a_changed_one_is_not(toys: ToyJobs) -> None:
    toys.submit("one")
    toys.ended("one")
    toys.submit("two")
    assert toys.ended("two") == "Completed"
    assert toys.starts() == 2
    children = toys.children("two")
    assert children["first"].properties["azureml.reusedrunid"] == toys.children("one")["first"].name
    assert blob(toys, "azureml/two/second/result.txt").read_text() == "HELLO !"
    toys.submit("three", count=4)
    assert toys.ended("three") == "Completed"
    assert toys.starts() == 4


def test_an_output_that_was_changed_since_is_not_reused(toys: ToyJobs) -> None:
    toys.submit("one")
    toys.ended("one")
    blob(toys, "azureml/one/first/result.txt").write_text("tampered")
    toys.submit("two")
    toys.ended("two")
    assert toys.starts() == 3  # the second step reads what it read before
    assert blob(toys, "azureml/two/first/result.txt").read_text() == "HELLO !"


@pytest.mark.parametrize(
    ("fault", "code"), [("image-build-failed", "ImageBuildFailure"), ("quota-exhausted", "QuotaExceeded")]
)
def test_mishaps_before_the_command_fail_the_step(toys: ToyJobs, fault: str, code: str) -> None:
    toys.emu.faults.add(fault, where={"step": "second"})
    toys.submit("one")
    assert toys.ended("one") == "Failed"
    error = toys.details(toys.children("one")["second"].name).error.error
    assert error.inner_error.code == code
    assert toys.starts() == 1


def test_an_environment_whose_build_folder_is_gone_cant_be_built(toys: ToyJobs) -> None:
    from azure.ai.ml.entities import BuildContext, Environment

    (toys.folder / "image").mkdir()
    (toys.folder / "image" / "Dockerfile").write_text("FROM scratch")
    made = Environment(name="built", version="1", build=BuildContext(path=str(toys.folder / "image")))
    toys.client.environments.create_or_update(made)
    component = toys.folder / "first.yaml"
    component.write_text(component.read_text().replace('{image: "example/image:1"}', "azureml:built:1"))
    shutil.rmtree(blob(toys, "LocalUpload"))
    toys.submit("one")
    assert toys.ended("one") == "Failed"
    error = toys.details(toys.children("one")["first"].name).error.error
    assert "there is no Dockerfile" in error.message


def test_a_step_holds_the_cores_of_its_machines_while_it_runs(toys: ToyJobs) -> None:
    from azure.ai.ml.entities import JobResourceConfiguration

    job = toys.job("one")
    job.jobs["first"].resources = JobResourceConfiguration(instance_type="Standard_NC48ads_A100_v4", instance_count=2)
    (toys.control / "hold").touch()
    toys.client.jobs.create_or_update(job)
    toys.until(lambda: toys.starts() >= 1)
    assert compute.in_use(toys.emu, "StandardNCADSA100v4Family") == 96
    (toys.control / "hold").unlink()
    assert toys.ended("one") == "Completed"
    assert compute.in_use(toys.emu, "StandardNCADSA100v4Family") == 0


def test_steps_that_need_nothing_of_a_failed_one_still_run_when_the_job_says_so(toys: ToyJobs) -> None:
    job = toys.job("one")
    other = toys.job("other").jobs["first"]
    (toys.folder / "apart").mkdir()
    other.inputs.control = str(toys.folder / "apart")
    other.outputs.out = None
    other.name = "other"
    job.jobs["other"] = other
    job.settings.continue_on_step_failure = True
    (toys.control / "fail").touch()
    toys.client.jobs.create_or_update(job)
    assert toys.ended("one") == "Failed"
    states = {name: child.status for name, child in toys.children("one").items()}
    assert states == {"first": "Failed", "other": "Completed"}


def test_a_command_that_cant_be_filled_in_fails_its_step(toys: ToyJobs) -> None:
    component = toys.folder / "first.yaml"
    component.write_text(component.read_text().replace("$[[--note ${{inputs.note}}]]", "--note ${{inputs.note}}"))
    toys.submit("one")
    assert toys.ended("one") == "Failed"
    assert "inputs.note" in toys.details(toys.children("one")["first"].name).error.error.message


def test_a_pipeline_that_cant_run_fails_with_what_is_wrong(toys: ToyJobs) -> None:
    toys.submit("one", count=5000)
    assert toys.ended("one") == "Failed"
    assert "must be at most 1000" in toys.details("one").error.error.message
    assert toys.starts() == 0


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.slow
def test_ranks_run_as_many_as_there_are_cores(toys: ToyJobs) -> None:
    toys.submit("one", ranks=2, count=0)  # with steps, a rank could read a mark that the other is writing
    assert toys.ended("one") == "Completed"
    child = toys.children("one")["first"].name
    log = toys.emu.blob_path(ACCOUNT, "azureml", f"ExperimentRun/dcid.{child}/user_logs/std_log.txt").read_text()
    assert "rank 1 of 2" in log
