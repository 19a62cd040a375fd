"""One command of a job as a node runs it: its environment variables, its log in the artifact store, what ends it early.

The variables are those that Azure ML sets, so that code which logs to MLflow finds the workspace; nothing of the
emulator's own surroundings that could tell a step where it is, and no secret of whoever started it, gets through.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from azft.emulator import identity, run_documents
from azft.emulator.job_control import JobControl, JobStopped
from azft.emulator.settings import ACCOUNT
from azft.emulator.state import Document
from azft.emulator.workspace import resource_id
from azft.execution.processes import LogFollower, Stopped, run_guarded
from azft.execution.ranks import python_folder, step_environment

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_LAST_LINES = 40
_GRACE = 5.0
"""Seconds that a canceled command has to end by itself."""
_RUN_TOKEN_SECONDS = 14 * 86400
_OURS = re.compile(r"^(AZFT|AZURE|AZUREML|IDENTITY|MSI|MLFLOW|ARM)_|(?i:token|secret|password|credential|_key$)")
_STEP = re.compile(r"\bstep[ =:]+(\d+)", re.IGNORECASE)


class Preempted(Exception):  # noqa: N818 - not an error of ours: the node was taken away
    """The node is gone; the job goes back to the queue."""


@dataclass(frozen=True)
class Command:
    """What to run: arguments, the folder to run in, the step's own variables, and where metrics may appear."""

    arguments: Sequence[str]
    folder: Path
    variables: Mapping[str, str]
    processes: int = 1
    outputs: Sequence[Path] = ()


def run_command(emu: Emulator, run: Document, command: Command, control: JobControl) -> tuple[int, list[str]]:
    """Run a command as the run `run`; its exit status and last lines.

    Raises `Preempted` when the fault `node-preempted` strikes, `JobStopped` when the job shall end.
    """
    log = log_file(emu, str(run["id"]))
    log.parent.mkdir(parents=True, exist_ok=True)
    run_documents.change(emu, str(run["id"]), logs=[run_documents.LOG])
    last: deque[str] = deque(maxlen=_LAST_LINES)
    follower = LogFollower(log, last.append)
    watcher = _Watcher(emu, run, log, command.outputs)
    _wait_for_leftovers(str(run["id"]), control)

    def tick() -> str | None:
        follower.poll()
        return control.reason() or watcher.look()

    try:
        status = run_guarded(
            list(command.arguments),
            folder=command.folder,
            environment=_environment(emu, run, command),
            log=log,
            grace=0.0 if watcher.armed else _GRACE,
            tick=tick,
        )
    except Stopped as stop:
        if stop.reason == "preempted":
            raise Preempted from None
        raise JobStopped(canceled=stop.reason == "canceled") from None
    follower.poll(final=True)
    if watcher.look() == "preempted":  # the command was faster than we looked: the node went before it was noted
        raise Preempted
    return status, list(last)


def _wait_for_leftovers(run_id: str, control: JobControl) -> None:
    """Wait until no process of an earlier attempt is left: after a kill of the emulator its guard still ends them."""
    deadline = time.monotonic() + 2 * _GRACE
    while time.monotonic() < deadline and _is_running(run_id):
        control.check()
        time.sleep(0.05)


def _is_running(run_id: str) -> bool:
    wanted = f"AZUREML_RUN_ID={run_id}".encode()
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has just ended, or is somebody else's
            if wanted in file.read_bytes().split(b"\0"):
                return True
    return False


def write_log(emu: Emulator, run_id: str, line: str, *, name: str = run_documents.LOG) -> None:
    """A line of the platform's own in a run's log."""
    log = log_file(emu, run_id, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    run_documents.change(emu, run_id, logs=[name])


def log_file(emu: Emulator, run_id: str, name: str = run_documents.LOG) -> Path:
    """Where a run's log is on disk: a blob of the artifact store."""
    return emu.blob_path(ACCOUNT, run_documents.ARTIFACTS, run_documents.artifact_path(run_id, name))


def child_environment(emu: Emulator, *, processes: int = 1) -> dict[str, str]:
    """This process's variables, without what is the emulator's or its user's own."""
    made = step_environment({}, processes=processes, bin_folder=python_folder(emu.state.root / "bin"))
    return {name: value for name, value in made.items() if not _OURS.search(name) or name == "TOKENIZERS_PARALLELISM"}


def _environment(emu: Emulator, run: Document, command: Command) -> dict[str, str]:
    kept = child_environment(emu, processes=command.processes)
    return {**kept, **run_variables(emu, run), **command.variables}


def run_variables(emu: Emulator, run: Document) -> dict[str, str]:
    """The variables by which code in a run finds the run and the workspace."""
    experiment = str(run["experiment"])
    experiment_id = run_documents.experiment_id(emu, experiment)
    variables = {
        "AZUREML_ARM_SUBSCRIPTION": emu.settings.subscription,
        "AZUREML_ARM_RESOURCEGROUP": emu.settings.resource_group,
        "AZUREML_ARM_WORKSPACE_NAME": emu.settings.workspace,
        "AZUREML_ARM_PROJECT_NAME": experiment,
        "AZUREML_EXPERIMENT_ID": experiment_id,
        "AZUREML_RUN_ID": str(run["id"]),
        "AZUREML_ROOT_RUN_ID": str(run["parent"] or run["id"]),
        "AZUREML_CURRENT_CLOUD": "AzureCloud",  # else azureml-mlflow asks Azure's public address which clouds there are
    }
    environment = emu.environment()
    if "REQUESTS_CA_BUNDLE" not in environment:  # nothing listens
        return variables
    token, expires = identity.issue(emu.secret, "https://management.azure.com", _RUN_TOKEN_SECONDS)
    host = emu.url.partition("://")[2]
    return {
        **variables,
        "AZUREML_SERVICE_ENDPOINT": emu.url,
        "AZUREML_DISCOVERY_SERVICE_ENDPOINT": f"{emu.url}/discovery",
        "AZUREML_RUN_TOKEN": token,
        "AZUREML_RUN_TOKEN_EXPIRY": str(expires),
        "MLFLOW_TRACKING_URI": f"azureml://{host}/mlflow/v2.0{resource_id(emu)}",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_EXPERIMENT_ID": experiment_id,
        "MLFLOW_EXPERIMENT_NAME": experiment,
        "MLFLOW_RUN_ID": str(run["id"]),
        "REQUESTS_CA_BUNDLE": environment["REQUESTS_CA_BUNDLE"],
        "SSL_CERT_FILE": environment["SSL_CERT_FILE"],
    }


class _Watcher:
    """Looks for the moment at which the fault `node-preempted` strikes: step n in the log or in a metrics file."""

    def __init__(self, emu: Emulator, run: Document, log: Path, outputs: Sequence[Path]) -> None:
        self._emu = emu
        self._where = {
            "job": run["parent"] or run["id"],
            "step": run.get("node") or run["display_name"],
            "attempt": run["attempt"],
        }
        self._outputs = outputs
        self._reached = 0
        self._log = LogFollower(log, self._log_line)
        # What an earlier attempt wrote is not this one's doing.
        self._metrics = {file: LogFollower(file, self._metrics_line) for file in self._metrics_files()}
        self.armed = self._fault() is not None

    def look(self) -> str | None:
        """A reason to end the command, or None."""
        if not self.armed:
            return None
        self._log.poll()
        for file in self._metrics_files():
            follower = self._metrics.get(file)
            if follower is None:
                follower = self._metrics[file] = LogFollower(file, self._metrics_line)
                follower.offset = 0
            follower.poll()
        fault = self._fault()
        if fault is None or self._reached < fault:
            return None
        self._emu.faults.take("node-preempted", **self._where)
        self.armed = False
        return "preempted"

    def _fault(self) -> float | None:
        fault = self._emu.faults.active("node-preempted", **self._where)
        return None if fault is None else fault.number("step", 0)

    def _metrics_files(self) -> list[Path]:
        return [file for folder in self._outputs if folder.is_dir() for file in folder.glob("*.jsonl")]

    def _log_line(self, line: str) -> None:
        for match in _STEP.finditer(line):
            self._reached = max(self._reached, int(match.group(1)))

    def _metrics_line(self, line: str) -> None:
        try:
            step = json.loads(line).get("step")
        except (ValueError, AttributeError):
            return
        if isinstance(step, int):
            self._reached = max(self._reached, step)
