"""One run on disk.

    recipe.json       the recipe with every default filled in
    plan.json         the plan that it carries out
    state.json        {"state", "time", "step", "message", "fix", "attempt", "pid"}; replaced whole
    events.jsonl      one line an event: {"time", "event", "step", ...}
    environment.json  versions, machine, commit
    logs/<step>.txt   what each step printed
    outputs/<name>/   what came out; outputs/metrics/metrics.jsonl has the training's metrics
    cancel.json       somebody asked for the run's end
    lock              held by the process that carries the run out
    azure.json        where in Azure it runs, when it does: {"subscription", "resource_group", "workspace", "job", ...}
    mirror.json       when and how far what is in Azure was brought here

A state says what was last known. Of a run on this machine only the lock tells a running process from one that died:
`Run.state` looks at both. A run in Azure needs no process here; its state is what Azure last said.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from filelock import FileLock, Timeout

from azft.errors import AzftError
from azft.files import append_line, read_lines, write_json
from azft.redact import redact

if TYPE_CHECKING:
    from azft.findings import Finding
    from azft.runs.progress import Progress

_LOCK_PATIENCE = 0.3
"""Seconds that taking a lock waits: whoever only looks at it holds it for microseconds."""


class RunState(StrEnum):
    """What a run is doing; Azure ML's words where it has one."""

    QUEUED = "Queued"
    PREPARING = "Preparing"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"
    INTERRUPTED = "Interrupted"
    """The process that carried it out is gone, or was stopped: `azft resume` goes on."""

    @property
    def active(self) -> bool:
        """Whether a process should be at work."""
        return self in {RunState.QUEUED, RunState.PREPARING, RunState.RUNNING}


@dataclass(frozen=True, slots=True)
class Status:
    """A run's state and what is known about it. `time` is when the state was entered (UTC, ISO 8601)."""

    state: RunState
    time: str
    step: str | None = None
    message: str = ""
    fix: str = ""
    attempt: int = 0
    pid: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The JSON form of state.json."""
        return {name: getattr(self, name) for name in Status.__slots__}


@dataclass(frozen=True)
class Run:
    """A run's folder, and what can be asked of it. Equal folders are equal runs; nothing is kept in memory."""

    folder: Path

    @property
    def name(self) -> str:
        """The run's name: the recipe's name and the start of the plan's hash."""
        return self.folder.name

    @property
    def plan(self) -> dict[str, Any]:
        """The plan, as JSON."""
        return self._read("plan.json")

    @property
    def model(self) -> str:
        """What is tuned: as the plan has it, but a registry's model with the version that the job was given."""
        planned = self.plan["model"]
        given = self.azure.get("model") if self.remote and planned["kind"] == "registry" else None
        return str(given or planned["description"])

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as resolved."""
        return self._read("recipe.json")

    @property
    def environment(self) -> dict[str, Any]:
        """Versions, machine and commit of the last attempt; empty before the first."""
        return self._read("environment.json") if (self.folder / "environment.json").is_file() else {}

    @property
    def remote(self) -> bool:
        """Whether it runs elsewhere, so that no process here stands behind it."""
        return (self.folder / "azure.json").is_file()

    @property
    def azure(self) -> dict[str, Any]:
        """Where in Azure it runs: workspace, job, address in the studio. Only a remote run has it."""
        return self._read("azure.json")

    @property
    def resumable(self) -> bool:
        """Whether it leaves checkpoints that `azft resume` goes on from: azft's own steps do, Azure's do not."""
        return not self.remote or self.azure.get("service") == "pipeline"

    @property
    def another(self) -> str:
        """The command that starts another run of the same plan, --mode and --set included: they are in the plan."""
        if self.plan.get("adopted"):  # the plan itself is on the machine that made it
            return f"azft submit RECIPE --mode {self.plan['mode']} --again"
        return f"azft submit {shlex.quote(str(self.folder.absolute() / 'plan.json'))} --again"

    def started(self) -> str | None:
        """When it was first begun: here, or as a job that Azure took (ISO 8601); None as long as it wasn't."""
        if self.remote:
            record = self.azure
            found = record.get("started_at") or record.get("submitted_at")  # records of before have the last job's only
            return str(found) if found else None
        begun = (event for event in self.events()[0] if event.get("event") == "run-started")
        return next((str(event["time"]) for event in begun), None)

    def refreshed(self) -> str | None:
        """When what runs elsewhere was last brought up to date here (UTC, ISO 8601); None when it never was."""
        try:
            found = orjson.loads((self.folder / "mirror.json").read_bytes()).get("refreshed")
        except (OSError, ValueError):
            return None
        return str(found) if found else None

    @property
    def state(self) -> RunState:
        """The state, with a process that died taken into account."""
        return self.status().state

    def status(self) -> Status:
        """State and details. An active state here that no process stands behind is `Interrupted`."""
        status = self.recorded_status()
        if self.remote:
            return status
        if status.state in {RunState.PREPARING, RunState.RUNNING} and not self.is_held():
            # It may have ended between the two looks.
            status = self.recorded_status()
            if status.state in {RunState.PREPARING, RunState.RUNNING}:
                fix = f"Go on with: azft resume {self.name}"
                return Status(
                    RunState.INTERRUPTED, status.time, status.step, "Its process is gone.", fix, status.attempt
                )
        return status

    def recorded_status(self) -> Status:
        """What state.json says, whether or not a process stands behind it."""
        data = self._read("state.json")
        return Status(**{**data, "state": RunState(data["state"])})

    def set_state(
        self, state: RunState, *, step: str | None = None, message: str = "", fix: str = "", attempt: int = 0
    ) -> None:
        """Replace state.json. Only the lock's holder may."""
        status = Status(
            state,
            now(),
            step,
            redact(message),
            redact(fix),
            attempt,
            os.getpid() if state.active and not self.remote else None,
        )
        write_json(self.folder / "state.json", status.to_dict())

    def add_event(self, event: dict[str, Any]) -> dict[str, Any]:
        """Append an event with its time to events.jsonl, and return it as written."""
        stamped = {"time": now(), **event}
        append_line(self.folder / "events.jsonl", orjson.loads(redact(orjson.dumps(stamped).decode())))
        return stamped

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Events from a byte offset on, and the offset to ask from next."""
        return read_lines(self.folder / "events.jsonl", offset)

    def metrics(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Lines of metrics from a byte offset on, and the offset to ask from next."""
        return read_lines(self.folder / "outputs" / "metrics" / "metrics.jsonl", offset)

    def progress(self) -> Progress:
        """Which step is at what, and the losses so far."""
        from azft.runs.progress import Progress

        plan = self.plan
        # A job that is the service's own has its own steps, which come with its events.
        own = (plan.get("target") or {}).get("service", "pipeline") == "pipeline"
        progress = Progress.of(step["name"] for step in plan["steps"] if own)
        for event in self.events()[0]:
            progress.take(event)
        for line in self.metrics()[0]:
            progress.take({"event": "metrics", "metrics": line})
        return progress

    def evaluation(self) -> dict[str, Any] | None:
        """The figures of base and tuned model on the held-out rows; None as long as there are none."""
        try:
            found = orjson.loads((self.folder / "outputs" / "evaluation" / "evaluation.json").read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def findings(self) -> tuple[Finding, ...]:
        """What is to be said of the result of a run that ended: a held-out loss that rose, for one."""
        from azft.runs.outcome import outcome_findings

        return outcome_findings(self)

    def samples(self) -> list[dict[str, Any]]:
        """Answers of base and tuned model to held-out prompts: `prompt`, `base`, `tuned`, `reference`."""
        return read_lines(self.folder / "outputs" / "evaluation" / "samples.jsonl", 0)[0]

    def log_steps(self) -> list[str]:
        """The steps that have a log, oldest first."""
        logs = sorted((self.folder / "logs").glob("*.txt"), key=lambda path: (path.stat().st_ctime_ns, path.name))
        return [path.stem for path in logs]

    def log(self, step: str, offset: int = 0) -> tuple[list[str], int]:
        """Whole lines of a step's log from a byte offset on, and the offset to ask from next."""
        try:
            with (self.folder / "logs" / f"{step}.txt").open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], offset
        end = data.rfind(b"\n") + 1
        return data[:end].decode("utf-8", "replace").splitlines(), offset + end

    def outputs(self) -> dict[str, Path]:
        """Name and place of everything that came out so far."""
        folder = self.folder / "outputs"
        return {path.name: path for path in sorted(folder.iterdir())} if folder.is_dir() else {}

    def cancel(self) -> None:
        """Ask the process that carries the run out to end it. Returns at once; an ended run stays as it is."""
        if self.state.active:
            write_json(self.folder / "cancel.json", {"time": now(), "pid": os.getpid()})

    def cancel_requested(self) -> bool:
        """Whether somebody asked for the run's end."""
        return (self.folder / "cancel.json").exists()

    def forget_cancel(self) -> None:
        """Clear a request; a run that is resumed starts without it."""
        (self.folder / "cancel.json").unlink(missing_ok=True)

    def is_held(self) -> bool:
        """Whether a process carries this run out right now."""
        try:
            with FileLock(self.folder / "lock", timeout=0):
                return False
        except Timeout:
            return True

    @contextmanager
    def hold(self, patience: float = _LOCK_PATIENCE) -> Iterator[bool]:
        """Try to become the process that carries the run out (or brings a remote one up to date).

        Yields whether it worked within `patience` seconds. The process's end frees it.
        """
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=patience, poll_interval=0.01)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def wait(self, on_event: Callable[[dict[str, Any]], None] | None = None, *, timeout: float | None = None) -> Status:
        """Follow the run to its end, passing on events, metrics and log lines as they come; returns how it ended.

        `timeout` is in seconds; when it is over the status is returned as it is. Nothing is ever stopped by this.
        """
        from azft.runs.watching import follow

        return follow(self, on_event, timeout=timeout)

    def _repr_html_(self) -> str:
        from azft.views_html.run import show

        return show(self)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            data = orjson.loads((self.folder / name).read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            fix = f"The run's folder is damaged. Move it away, and azft knows no more of the run: {self.folder}"
            raise AzftError(f"{self.folder / name} can't be read: {error}.", fix=fix) from None
        assert isinstance(data, dict)
        return data


def now() -> str:
    """The time, UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
