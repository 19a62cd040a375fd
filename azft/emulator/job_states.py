"""The life of a job: Queued, Preparing, Running, and an end. Carried out by a thread, or told by the clock alone.

With `executor: "run"` a thread a job does the work; it takes up again after a restart of the emulator. With `"none"`
nothing is run: the times at which a job changes are fixed when it is made, and looking at it at any later moment gives
the same answer. That is what thousands of schedules in one process need.
"""

from __future__ import annotations

import threading
import traceback
import uuid
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from azft.emulator import job_errors, run_documents, step_machines
from azft.emulator.executor import execute_command, execute_pipeline
from azft.emulator.finetuning import execute_finetuning, register_result
from azft.emulator.http import ApiError
from azft.emulator.job_control import JobControl, JobStopped
from azft.emulator.job_outputs import place_of, record_output
from azft.emulator.state import Document

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

JOB = "job"
_RUN_KINDS = {"Pipeline": "azureml.PipelineRun", "Command": "azureml.scriptrun", "FineTuning": "azureml.FineTuningRun"}
_END_SECONDS = 20.0
"""How long the end of the emulator waits for a job's thread."""


class Workers(AbstractContextManager["Workers"]):
    """The threads that carry out jobs, one a job."""

    def __init__(self, emu: Emulator) -> None:
        self._emu = emu
        self._lock = threading.Lock()
        self._running: dict[str, tuple[threading.Thread, JobControl]] = {}

    def start(self, name: str) -> None:
        """Begin, or take up again, a job."""
        with self._lock:
            if name in self._running or self._emu.stopping.is_set():
                return
            control = JobControl(self._emu)
            thread = threading.Thread(target=self._work, args=(name, control), name=f"job {name}", daemon=True)
            self._running[name] = (thread, control)
            thread.start()

    def cancel(self, name: str) -> bool:
        """Ask a job's thread to end; False when there is none."""
        with self._lock:
            if name not in self._running:
                return False
            self._running[name][1].cancel()
            return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            threads = [thread for thread, _ in self._running.values()]
        for thread in threads:
            thread.join(_END_SECONDS)

    def _work(self, name: str, control: JobControl) -> None:
        emu = self._emu
        try:
            _carry_out(emu, name, control)
        except JobStopped as stop:
            if stop.canceled:
                _cancel_runs(emu, name)
        except ApiError as error:
            run_documents.set_status(
                emu, name, "Failed", error=job_errors.run_error(emu, error.message, code=error.code)
            )
        except Exception as error:  # a fault of the emulator must be seen, and not leave a job that runs forever
            if not emu.stopping.is_set():
                message = f"The emulator itself failed: {type(error).__name__}: {error}"
                traceback.print_exc()
                failure = job_errors.run_error(emu, message, code="ServiceError", component="emulator")
                run_documents.set_status(emu, name, "Failed", error=failure)
        finally:
            with self._lock:
                self._running.pop(name, None)


def begin(emu: Emulator, job: Document) -> None:
    """Let a job that was just stored take its course."""
    properties = job["properties"]
    run_documents.create(
        emu,
        str(job["name"]),
        kind=_RUN_KINDS[properties["jobType"]],
        experiment=str(properties["experimentName"]),
        display_name=str(properties["displayName"]),
        status="Queued",
        tags=dict(properties["tags"]),
        properties=dict(properties["properties"]),
        compute=str(properties.get("computeId") or "").rsplit("/", 1)[-1],
        timeline=None if emu.settings.executor == "run" else _timeline(emu, job),
    )
    if emu.settings.executor == "run":
        emu.part(Workers).start(str(job["name"]))


def resume(emu: Emulator) -> None:
    """Take up the jobs that had not ended when the emulator was stopped."""
    step_machines.forget(emu)
    for name, _ in emu.state.list(JOB):
        run = run_documents.find(emu, name)
        if run is None or run["status"] in run_documents.TERMINAL or run.get("timeline"):
            continue
        if run["status"] == "CancelRequested":
            _cancel_runs(emu, name)
        else:
            emu.part(Workers).start(name)


def observe(emu: Emulator, run_id: str) -> Document | None:
    """A run as it is now: what the clock has brought about is written down first."""
    run = run_documents.find(emu, run_id)
    if run is None or run["status"] in run_documents.TERMINAL or not run.get("timeline"):
        return run
    now = emu.clock.now()
    for moment, status, error in run["timeline"]:
        if moment > now:
            break
        if status == "Running" and run["parent"] is None:
            _begin_steps(emu, run, moment)
        if status in run_documents.TERMINAL:
            for child in run_documents.children(emu, run_id):
                observe(emu, str(child["id"]))
            if status == "Completed":
                _leave_outputs(emu, run_id)
        run = run_documents.set_status(emu, run_id, status, at=moment, error=error)
    return run


def cancel(emu: Emulator, name: str) -> None:
    """End a job; one that has ended stays as it is."""
    run = observe(emu, name)
    if run is None or run["status"] in run_documents.TERMINAL:
        return
    run_documents.set_status(emu, name, "CancelRequested")
    if not emu.part(Workers).cancel(name):
        _cancel_runs(emu, name)


def _carry_out(emu: Emulator, name: str, control: JobControl) -> None:
    job = emu.state.get(JOB, name)
    run = run_documents.find(emu, name)
    if job is None or run is None:
        return
    if run["status"] == "Queued":
        control.wait_until(float(run["created"]) + emu.settings.queue_seconds)
    if job["properties"]["jobType"] == "Pipeline":
        run_documents.set_status(emu, name, "Preparing")
        run_documents.set_status(emu, name, "Running")
        execute_pipeline(emu, job, control)
    elif job["properties"]["jobType"] == "Command":
        execute_command(emu, job, control)
    else:
        execute_finetuning(emu, job, control)


def _cancel_runs(emu: Emulator, name: str) -> None:
    for child in run_documents.children(emu, name):
        run_documents.set_status(emu, str(child["id"]), "Canceled")
    run_documents.set_status(emu, name, "Canceled")


# Told by the clock


def _timeline(emu: Emulator, job: Document) -> list[list[Any]]:
    """[moment, status, error] of a job that is not executed, with the mishaps that wait for it."""
    settings, where = emu.settings, {"job": job["name"], "step": ""}
    moment = emu.clock.now()
    found: list[list[Any]] = [[moment, "Queued", None]]
    moment += settings.queue_seconds
    if emu.faults.take("quota-exhausted", **where):
        return [*found, [moment, "Failed", job_errors.quota_exhausted(emu, "standardNCADSA100v4Family")]]
    while True:
        found.append([moment, "Preparing", None])
        moment += settings.prepare_seconds
        if emu.faults.take("image-build-failed", **where):
            return [*found, [moment, "Failed", job_errors.image_build_failed(emu, "azft-train")]]
        found.append([moment, "Running", None])
        if not emu.faults.take("node-preempted", **where):
            break
        moment += settings.run_seconds / 2
        found.append([moment, "Queued", None])
        moment += settings.queue_seconds
    return [*found, [moment + settings.run_seconds, "Completed", None]]


def _leave_outputs(emu: Emulator, run_id: str) -> None:
    """What a job that is not executed leaves: places without files, and the model that it registers."""
    properties = (emu.state.get(JOB, run_id) or {}).get("properties") or {}
    if properties.get("jobType") != "FineTuning":
        for output, entry in (properties.get("outputs") or {}).items():
            place = place_of(emu, (entry or {}).get("uri"), f"{run_id}/{output}")
            record_output(emu, run_id, output, place, str((entry or {}).get("jobOutputType") or "uri_folder"))
    else:
        register_result(emu, run_id)


def _begin_steps(emu: Emulator, job: Document, moment: float) -> None:
    """The steps of a job that is not executed: one after the other, in the job's own time."""
    stored = emu.state.get(JOB, str(job["id"]))
    nodes = list(((stored or {}).get("properties") or {}).get("jobs") or {})
    if not nodes or run_documents.children(emu, str(job["id"])):
        return
    each = emu.settings.run_seconds / len(nodes)
    for number, node in enumerate(nodes):
        start = moment + number * each
        run_documents.create(
            emu,
            str(uuid.uuid5(uuid.NAMESPACE_URL, f"{job['uuid']}/{node}")),
            kind="azureml.StepRun",
            experiment=str(job["experiment"]),
            display_name=node,
            status="NotStarted",
            parent=str(job["id"]),
            node=node,
            timeline=[[start, "Running", None], [start + each, "Completed", None]],
            properties={"azureml.pipelinerunid": job["id"], "azureml.nodeName": node},
        )
