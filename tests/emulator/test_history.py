"""Run history as azure-ai-ml reads it: streaming, children, downloads, changes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import requests

from azft.emulator import Emulator, Settings
from tests.helpers import azure_sdk
from tests.helpers.toy_jobs import ToyJobs


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyJobs]:
    """A finished job `one` and a failed job `two` in an emulator that listens."""
    patch = pytest.MonkeyPatch()
    with Emulator(settings=Settings(executor="run")) as emulator:
        azure_sdk.lead(emulator, patch)
        toys = ToyJobs(tmp_path_factory.mktemp("toys"), emulator)
        toys.submit("one", count=3)
        assert toys.ended("one") == "Completed"
        (toys.control / "fail").touch()
        toys.submit("two", count=4)
        assert toys.ended("two") == "Failed"
        yield toys
    patch.undo()


def test_stream_ends_with_the_job_and_raises_its_error(toys: ToyJobs) -> None:
    told = io.StringIO()
    with redirect_stdout(told):
        toys.client.jobs.stream("one")
    assert "Execution Summary" in told.getvalue()
    first = toys.children("one")["first"].name
    log = requests.get(toys.details("one").log_files["logs/azureml/executionlogs.txt"], timeout=30).text
    assert f"first:{first}" in log
    assert log.rstrip().endswith(f"Completing processing run id {toys.children('one')['second'].name}.")
    from azure.ai.ml.exceptions import JobException

    with pytest.raises(JobException, match="Failed nodes: /first"):
        toys.client.jobs.stream("two")


def test_a_log_is_read_by_range_through_its_sas(toys: ToyJobs) -> None:
    child = toys.children("one")["first"]
    url = toys.details(child.name).log_files["user_logs/std_log.txt"]
    whole = requests.get(url, timeout=30)
    assert whole.text.splitlines()[-1] == "step 3/3  loss 1.0"
    tail = requests.get(url, headers={"Range": f"bytes={len(whole.content) - 4}-"}, timeout=30)
    assert (tail.status_code, tail.text) == (206, "1.0\n")
    assert requests.get(url, headers={"Range": f"bytes={len(whole.content)}-"}, timeout=30).status_code == 416
    assert requests.get(url.partition("?")[0], timeout=30).status_code == 401


def test_children_are_jobs_with_times_and_a_parent(toys: ToyJobs) -> None:
    children = toys.children("one")
    assert list(children) == ["first", "second"]
    run = toys.client.jobs._runs_operations.get_run(children["second"].name)
    first = toys.client.jobs._runs_operations.get_run(children["first"].name)
    assert run.parent_run_id == run.root_run_id == "one"
    assert first.start_time_utc < first.end_time_utc <= run.start_time_utc
    assert toys.client.jobs.list(parent_job_name="one", max_results=1)
    assert len(list(toys.client.jobs.list(parent_job_name="one", max_results=1))) == 1


def test_outputs_and_logs_are_downloaded(toys: ToyJobs, tmp_path: Path) -> None:
    toys.client.jobs.download("one", download_path=tmp_path, all=True)
    assert (tmp_path / "named-outputs" / "second" / "result.txt").read_text() == "HELLO !"
    assert (tmp_path / "named-outputs" / "first" / "mark.txt").read_text() == "3"
    child = toys.children("one")["first"].name
    toys.client.jobs.download(child, download_path=tmp_path / "child")
    assert "step 3/3" in (tmp_path / "child" / "artifacts" / "user_logs" / "std_log.txt").read_text()


def test_what_a_jobs_output_is_can_be_registered(toys: ToyJobs) -> None:
    from azure.ai.ml.entities import Model

    made = toys.client.models.create_or_update(
        Model(name="made", version="1", path="azureml://jobs/one/outputs/second", type="custom_model")
    )
    assert made.path.rstrip("/").endswith("/paths/azureml/one/second")


def test_a_job_is_changed_and_archived_through_history(toys: ToyJobs) -> None:
    changed = toys.client.jobs.update("one", tags={"more": "1"}, display_name="better")
    assert (changed.display_name, changed.tags) == ("better", {"azft.plan": "abc", "more": "1"})
    toys.client.jobs.archive("one")
    assert [job.name for job in toys.client.jobs.list()] == ["two"]
    toys.client.jobs.restore("one")
    assert {job.name for job in toys.client.jobs.list()} == {"one", "two"}


def test_a_run_that_is_not_there_is_not_found(toys: ToyJobs) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    with pytest.raises(ResourceNotFoundError):
        toys.details("nowhere")
