"""A command job, sent by azure-ai-ml over loopback, runs as a graph of one step whose run is the job's own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from azft.emulator import Emulator, Settings, compute
from azft.emulator.settings import ACCOUNT, CONTAINER
from tests.helpers import azure_sdk
from tests.helpers.toy_jobs import ToyJobs

LINE = (
    "python main.py --data ${{inputs.data}} --control ${{inputs.control}} --count ${{inputs.count}} "
    "--out ${{outputs.out}}"
)
PLACE = "azureml://datastores/workspaceblobstore/paths/elsewhere/${{name}}/out"


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyJobs]:
    """An emulator that listens and executes what it gets, and a client led to it."""
    with Emulator(settings=Settings(executor="run")) as emulator:
        azure_sdk.lead(emulator, monkeypatch)
        yield ToyJobs(tmp_path / "toys", emulator)
    assert emulator.crashes == []


def job(toys: ToyJobs, name: str, *, place: str | None = None, line: str = LINE, count: int = 3, **fields: Any) -> Any:
    """The toys' program as a command job."""
    from azure.ai.ml import Input, Output, command

    return command(
        name=name,
        display_name="toy",
        experiment_name="toys",
        command=line,
        code=str(toys.folder / "code"),
        environment="azureml://registries/azureml/environments/any/versions/1",
        inputs={
            "data": Input(type="uri_file", path=str(toys.folder / "data.txt")),
            "control": str(toys.control),
            "count": count,
        },
        outputs={"out": Output(type="uri_folder", path=place)},
        environment_variables={"WORD": "!"},
        tags={"who": "me"},
        **fields,
    )


def submit(toys: ToyJobs, name: str, **options: Any) -> Any:
    return toys.client.jobs.create_or_update(job(toys, name, **options))


def test_it_runs_from_what_was_sent_and_leaves_its_output(toys: ToyJobs, tmp_path: Path) -> None:
    sent = submit(toys, "one")
    assert (sent.type, sent.tags["who"]) == ("command", "me")
    for file in (toys.folder / "code" / "main.py", toys.folder / "data.txt"):
        file.unlink()  # what was uploaded is what runs
    assert toys.ended("one") == "Completed"
    assert toys.emu.blob_path(ACCOUNT, CONTAINER, "azureml/one/out/result.txt").read_text() == "HELLO !"
    toys.client.jobs.download("one", output_name="out", download_path=tmp_path / "got")
    assert (tmp_path / "got" / "named-outputs" / "out" / "result.txt").read_text() == "HELLO !"
    found = toys.client.jobs.get("one")
    assert found.outputs["out"].path == "azureml://datastores/workspaceblobstore/paths/azureml/one/out/"
    assert (found.display_name, found.experiment_name) == ("toy", "toys")


def test_its_run_is_the_jobs_own(toys: ToyJobs, capfd: pytest.CaptureFixture[str]) -> None:
    submit(toys, "one")
    toys.client.jobs.stream("one")
    assert "step 3/3" in capfd.readouterr().out
    assert toys.children("one") == {}
    details = toys.details("one")
    assert (details.status, list(details.log_files)) == ("Completed", ["user_logs/std_log.txt"])
    seen = json.loads((toys.control / "environment.json").read_text())
    assert (seen["AZUREML_RUN_ID"], seen["AZUREML_ROOT_RUN_ID"], seen["WORD"]) == ("one", "one", "!")
    assert [found.name for found in toys.client.jobs.list()] == ["one"]


def test_what_it_ended_with_is_told_in_the_services_words(toys: ToyJobs) -> None:
    (toys.control / "fail").touch()
    submit(toys, "one")
    assert toys.ended("one") == "Failed"
    error = toys.details("one").error.error
    assert "exited with status code 3" in error.message
    assert "it was told to fail" in error.message


def test_cancel_ends_the_process(toys: ToyJobs) -> None:
    (toys.control / "hold").touch()
    submit(toys, "one")
    toys.until(lambda: toys.starts() == 1)
    process = int((toys.control / "starts.txt").read_text().split()[1])
    poller = toys.client.jobs.begin_cancel("one")
    asked = azure_sdk.sent(toys.emu, "/jobs/one/cancel")
    assert [entry["status"] for entry in asked] == [202]
    poller.result()  # asks again until the job has ended
    assert toys.status("one") == "Canceled"
    assert azure_sdk.sent(toys.emu, "/mfeOperationResults/", ":one")
    assert not Path(f"/proc/{process}").exists()


def test_preempted_it_goes_on_where_it_writes_to(toys: ToyJobs) -> None:
    toys.emu.faults.add("node-preempted", where={"job": "one"}, params={"step": 2})
    (toys.control / "slow").touch()
    submit(toys, "one", place=PLACE)
    assert toys.ended("one") == "Completed"
    assert toys.emu.blob_path(ACCOUNT, CONTAINER, "elsewhere/one/out/mark.txt").read_text() == "3"
    assert toys.starts() == 2


def test_the_same_job_under_another_name_runs_again(toys: ToyJobs) -> None:
    for name in ("one", "two"):
        submit(toys, name)
        assert toys.ended(name) == "Completed"
    assert toys.starts() == 2  # a pipeline's step would have been reused


def test_it_holds_the_cores_of_its_nodes(toys: ToyJobs) -> None:
    (toys.control / "hold").touch()
    submit(toys, "one", instance_type="Standard_NC48ads_A100_v4", instance_count=2)
    toys.until(lambda: toys.starts() >= 1)
    assert compute.in_use(toys.emu, "StandardNCADSA100v4Family") == 96
    (toys.control / "hold").unlink()
    assert toys.ended("one") == "Completed"


def test_a_command_line_that_cant_be_filled_in_fails_it(toys: ToyJobs) -> None:
    # The SDK looks at the inputs alone.
    submit(toys, "one", line=LINE + " --note ${{outputs.nothing}}")
    assert toys.ended("one") == "Failed"
    message = toys.details("one").error.error.message
    assert message.startswith("Job validation failed")
    assert "outputs.nothing" in message
    assert toys.starts() == 0


def test_a_kind_of_ranks_that_is_not_known_fails_it(toys: ToyJobs) -> None:
    from azure.ai.ml import MpiDistribution

    submit(toys, "one", distribution=MpiDistribution(process_count_per_instance=2))
    assert toys.ended("one") == "Failed"
    assert "by mpi" in toys.details("one").error.error.message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"compute": "nowhere"}, "Unknown compute target 'nowhere'"),
        ({"instance_type": "Standard_Potato"}, "Standard_Potato"),
    ],
)
def test_what_the_service_refuses_at_once_makes_no_job(toys: ToyJobs, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(HttpResponseError, match=words):
        submit(toys, "one", **fields)
    assert list(toys.client.jobs.list()) == []


def test_told_by_the_clock_alone_it_passes_through_its_states(core: Emulator, tmp_path: Path) -> None:
    core.clock.manual = True
    core.settings = core.settings.changed({"queue_seconds": 10, "prepare_seconds": 20, "run_seconds": 60})
    toys = ToyJobs(tmp_path / "toys", core)
    submit(toys, "one")
    seen = []
    for seconds in (0, 10, 20, 60):
        core.clock.advance(seconds)
        seen.append(toys.status("one"))
    assert seen == ["Queued", "Preparing", "Running", "Completed"]
    assert toys.children("one") == {}


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
@pytest.mark.slow
def test_ranks_run_as_many_as_there_are_cores(toys: ToyJobs) -> None:
    from azure.ai.ml import PyTorchDistribution

    # No steps: two ranks at once would read a mark that the other is writing.
    submit(toys, "one", count=0, distribution=PyTorchDistribution(process_count_per_instance=2))
    assert toys.ended("one") == "Completed"
    log = toys.emu.blob_path(ACCOUNT, "azureml", "ExperimentRun/dcid.one/user_logs/std_log.txt").read_text()
    assert "rank 1 of 2" in log
