"""Carrying out a fine-tuning job: the trainer's command line, a job.json for it, and the registration of its model.

The trainer is whatever `settings.trainer_command` names; the emulator knows only how it is called.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from azft.emulator import job_errors, run_documents
from azft.emulator.http import ApiError
from azft.emulator.job_control import JobControl, JobStopped
from azft.emulator.job_outputs import OutputPlace, place_of, record_output
from azft.emulator.resolving import StoredAssets, register_model
from azft.emulator.state import Document
from azft.emulator.step_process import Command, Preempted, run_command, write_log
from azft.execution.graph import GraphError

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

OUTPUT = "registered_model"
_SHOWN_LINES = 20


def execute_finetuning(emu: Emulator, job: Document, control: JobControl) -> None:
    """Carry out a job until its run has ended. Raises `JobStopped` when it was asked to end."""
    name = str(job["name"])
    while True:
        try:
            error = _attempt(emu, job, control)
        except Preempted:
            write_log(emu, name, "The node was preempted; the job is queued again.")
            run_documents.set_status(emu, name, "Queued")
            control.wait_until(emu.clock.now() + emu.settings.queue_seconds)
            continue
        except JobStopped as stop:
            if stop.canceled:
                run_documents.set_status(emu, name, "Canceled")
            raise
        if error is not None:
            write_log(emu, name, f"Error: {error['error']['message']}")
            run_documents.set_status(emu, name, "Failed", error=error)
            return
        register_result(emu, name)
        run_documents.set_status(emu, name, "Completed")
        return


def register_result(emu: Emulator, name: str) -> None:
    """Register the model of a finished job under the name that its output gives; once."""
    job = emu.state.get("job", name) or {}
    output = (job.get("properties", {}).get("outputs") or {}).get(OUTPUT)
    if not output or not output.get("assetName") or output.get("assetVersion"):
        return
    place = output_place(emu, name)
    record_output(emu, name, OUTPUT, place, "mlflow_model")
    version = register_model(
        emu,
        str(output["assetName"]),
        uri=place.uri,
        kind=str(output.get("jobOutputType") or "mlflow_model"),
        job=name,
        tags=dict(job["properties"].get("tags") or {}),
    )
    job["properties"]["outputs"][OUTPUT] = {**output, "assetVersion": version, "uri": place.uri}
    emu.state.put("job", name, job)


def output_place(emu: Emulator, name: str) -> OutputPlace:
    """Where a job's model is written."""
    return place_of(emu, None, f"{name}/{OUTPUT}")


def _attempt(emu: Emulator, job: Document, control: JobControl) -> job_errors.Error | None:
    name = str(job["name"])
    run = run_documents.find(emu, name) or {}
    run = run_documents.change(emu, name, attempt=int(run["attempt"]) + 1)
    where = {"job": name, "step": str(run["display_name"])}
    if emu.faults.take("quota-exhausted", **where):
        return job_errors.quota_exhausted(emu, "standardNCADSA100v4Family")
    run_documents.set_status(emu, name, "Preparing")
    control.wait_until(emu.clock.now() + emu.settings.prepare_seconds)
    if emu.faults.take("image-build-failed", **where):
        return job_errors.image_build_failed(emu, "acft-hf-nlp-gpu")
    if not emu.settings.trainer_command:
        raise ApiError(501, "NotEmulated", "settings.trainer_command is not set: nothing here can fine-tune.")
    folder = emu.state.root / "nodes" / name
    try:
        described = _describe(emu, job)
    except GraphError as error:
        return job_errors.run_error(emu, error.message, inner=("BadArgument", "InputNotFound"), component="finetuning")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "job.json"
    file.write_text(json.dumps(described), encoding="utf-8")
    output = output_place(emu, name).path
    output.mkdir(parents=True, exist_ok=True)
    run_documents.set_status(emu, name, "Running")
    command = Command(
        arguments=[*emu.settings.trainer_command, "--job", str(file), "--output", str(output)],
        folder=folder,
        variables={},
        outputs=_metrics_folders(folder),
    )
    status, lines = run_command(emu, run, command, control)
    return None if status == 0 else job_errors.command_failed(emu, status, lines[-_SHOWN_LINES:])


def _metrics_folders(folder: Path) -> tuple[Path, ...]:
    return (folder, folder / "work" / "metrics")


def _describe(emu: Emulator, job: Document) -> dict[str, object]:
    assets = StoredAssets(emu)
    details = job["properties"]["fineTuningDetails"]
    validation = details.get("validationData")
    return {
        "task": details["taskType"],
        "model": str(assets.data(str(details["model"]["uri"]), "mlflow_model")),
        "train": str(assets.data(str(details["trainingData"]["uri"]), "uri_file")),
        "validation": str(assets.data(str(validation["uri"]), "uri_file")) if validation else None,
        "hyperparameters": {key: str(value) for key, value in (details.get("hyperParameters") or {}).items()},
    }
