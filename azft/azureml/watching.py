"""Bringing a run's record up to date from Azure: state, steps, logs, metrics, evaluation, and why it failed.

Everything that shows a run reads the folder under `.azft`, so this writes there what Azure has. Under the run's lock,
one process at a time; a file grows by the bytes that are new, found by its own length, so that a cut anywhere loses
nothing and doubles nothing. What can't be read now (an outage) leaves the record as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from azft.azureml.failures import explain
from azft.azureml.history import ENDED, History, HistoryRun
from azft.azureml.resources import Resource, Resources
from azft.azureml.run_metrics import service_metrics
from azft.azureml.run_outputs import find_output, kept_path
from azft.azureml.storage import Piece
from azft.files import append_line, write_bytes, write_json
from azft.runs import Run, RunState
from azft.runs.record import now

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

STATES: dict[str, RunState] = {
    "NotStarted": RunState.QUEUED,
    "Queued": RunState.QUEUED,
    "Paused": RunState.QUEUED,
    "Scheduled": RunState.QUEUED,
    "Starting": RunState.PREPARING,
    "Provisioning": RunState.PREPARING,
    "Preparing": RunState.PREPARING,
    "Running": RunState.RUNNING,
    "Finalizing": RunState.RUNNING,
    "CancelRequested": RunState.RUNNING,
    "NotResponding": RunState.RUNNING,
    "Completed": RunState.COMPLETED,
    "Failed": RunState.FAILED,
    "Canceled": RunState.CANCELED,
}
"""Azure's word -> ours. A word that isn't here says nothing: the record stays."""

_PATIENCE = 30.0
"""Seconds to wait for another process that brings the same run up to date."""
_UNSEEN = 300.0
"""Seconds after submitting in which a job that Azure doesn't show is taken for not visible yet."""
_OVERLAP = 64
"""Bytes before the offset that are read again: they tell a file that grew from one that was begun anew."""
_LARGE = 20 << 20
"""Bytes above which a file is left where it is."""
_MARK = "--- the step was started again; its log begins anew ---"


def refresh(connection: Connection, run: Run) -> bool:
    """Bring the run's record up to date; whether it is, and not another process still at it.

    Raises `ServiceUnavailableError` and leaves the record when Azure does not answer.
    """
    if not run.recorded_status().state.active and _Mirror.read(run).complete:
        return True
    with run.hold(_PATIENCE) as held:
        if held:
            _Refresh(connection, run).all()
        return held


def mark_submitted(run: Run, job: Resource) -> None:
    """Note in azure.json that the job is in Azure."""
    services = job.properties.get("services") or {}
    studio = (services.get("Studio") or {}).get("endpoint")
    record, taken = run.azure, job.created or now()
    given = {"submitted": True, "job_id": job.id, "studio_url": studio, "submitted_at": taken}
    write_json(run.folder / "azure.json", {**record, **given, "started_at": record.get("started_at") or taken})


@dataclass
class _Mirror:
    """mirror.json: when it was last brought up to date, and what of each step is here already."""

    refreshed: str | None = None
    complete: bool = False
    """Whether all that an ended run wrote is here."""
    steps: dict[str, dict[str, Any]] | None = None
    """Child run -> {"logs": {file: offset at which this attempt begins here}, "done": bool}."""

    @classmethod
    def read(cls, run: Run) -> _Mirror:
        try:
            found = orjson.loads((run.folder / "mirror.json").read_bytes())
            return cls(found.get("refreshed"), bool(found.get("complete")), dict(found.get("steps") or {}))
        except (OSError, ValueError):
            return cls(steps={})

    def write(self, run: Run) -> None:
        write_json(
            run.folder / "mirror.json", {"refreshed": self.refreshed, "complete": self.complete, "steps": self.steps}
        )

    def of(self, child: str) -> dict[str, Any]:
        assert self.steps is not None
        return self.steps.setdefault(child, {"logs": {}, "done": False})


class _Refresh:
    """One bringing up to date; holds the run's lock."""

    def __init__(self, connection: Connection, run: Run) -> None:
        self.connection = connection
        self.run = run
        self.info = run.azure
        self.job_name = str(self.info["job"])
        self.history = History(connection)
        self.mirror = _Mirror.read(run)
        self.told = {(e.get("event"), e.get("step"), e.get("child")) for e in run.events()[0]}

    def all(self) -> None:
        job = Resources(self.connection).get("job", self.job_name)
        if job is None:
            self.missing()
            return
        if not self.info.get("submitted"):
            mark_submitted(self.run, job)
        status = str(job.properties.get("status") or "")
        state = STATES.get(status)
        children = self.history.children(self.job_name)
        steps = children or [self.history.details(self.job_name)]
        if not children:
            steps = [_as_step(steps[0])]
        ended = state is not None and not state.active
        for step in steps:
            self.step(step, ended=ended)
        self.metrics(job, steps, ended=ended)
        if state is None:
            self.seen(complete=False)
            return
        if state.active:
            self.set_state(state, _current(steps), "Cancel was requested." if status == "CancelRequested" else "")
        else:
            self.ended(job, state, steps)
        self.seen(complete=not state.active)

    def missing(self) -> None:
        """Azure doesn't show the job: it never got there, isn't visible yet, or somebody deleted it."""
        if not self.info.get("submitted"):
            if self.run.recorded_status().state is not RunState.FAILED:  # whose reason says more
                fix = f"Start it with: azft resume {self.run.name}"
                self.set_state(RunState.INTERRUPTED, None, "It was never started in Azure.", fix)
        elif _age(self.info.get("submitted_at")) > _UNSEEN:
            fix = f"Somebody deleted it. {self.go_on()}"
            self.set_state(RunState.INTERRUPTED, None, f"Azure has no job {self.job_name} any more.", fix)
        self.seen(complete=False)

    def seen(self, *, complete: bool) -> None:
        self.mirror.refreshed, self.mirror.complete = now(), complete
        self.mirror.write(self.run)

    def set_state(self, state: RunState, step: str | None, message: str = "", fix: str = "") -> None:
        known = self.run.recorded_status()
        if (known.state, known.step, known.message, known.fix) != (state, step, message, fix):
            self.run.set_state(state, step=step, message=message, fix=fix, attempt=known.attempt)

    def tell(self, event: str, step: str | None, child: str, **fields: Any) -> None:
        """Record an event once, however often the process that does so is cut off."""
        if (event, step, child) not in self.told:
            self.told.add((event, step, child))
            self.run.add_event({"event": event, "step": step, "child": child, **fields})

    def step(self, child: HistoryRun, *, ended: bool) -> None:
        name = _step_name(child.name)
        if child.reused:
            self.tell("step-reused", name, child.id, source=child.source)
            self.mirror.of(child.id)["done"] = True
            return
        if child.status not in {"NotStarted", "Queued", "Preparing", "Starting", "Provisioning"}:
            self.tell("step-started", name, child.id, time=(child.started or datetime.now(UTC)).isoformat())
        record = self.mirror.of(child.id)
        if not record["done"] and child.begun:
            details = child if child.logs else self.history.details(child.id)
            over = ended or details.status in ENDED
            grew = [
                self.log(record, name if rank == 0 else f"{name}.rank{rank}", url)
                for rank, url in sorted(details.log_of_rank().items())
            ]
            # A log may arrive a moment after the status: an ended step is left alone once a look brought nothing new.
            if over and (ended or not any(grew)):
                record["done"] = True
                self.mirror.write(self.run)
        if record["done"]:
            for log in record["logs"]:
                _end_line(self.run.folder / "logs" / f"{log}.txt")
        if child.status == "Completed":
            self.tell("step-finished", name, child.id, seconds=round(child.seconds or 0.0, 3))
        elif child.status == "Failed":
            self.tell("step-failed", name, child.id, message=_words(child.error))
        elif child.status == "Canceled":
            self.tell("step-canceled", name, child.id)

    def log(self, record: dict[str, Any], name: str, url: str) -> bool:
        """Append what is new of a log; whether there was anything."""
        file = self.run.folder / "logs" / f"{name}.txt"
        file.parent.mkdir(exist_ok=True)
        logs = record["logs"]
        if name not in logs:
            logs[name] = _end_line(file)
            self.mirror.write(self.run)

        def begun_anew() -> int:
            with file.open("ab") as target:
                target.write(f"{_MARK}\n".encode())
            logs[name] = file.stat().st_size
            self.mirror.write(self.run)
            return int(logs[name])

        return _append(file, int(logs[name]), lambda offset: self.history.read_log(url, offset), begun_anew)

    def metrics(self, job: Resource, steps: list[HistoryRun], *, ended: bool) -> None:
        """The training's metrics: azft's own file where the pipeline writes one, else what the service logged."""
        file = self.run.folder / "outputs" / "metrics" / "metrics.jsonl"
        service = self.info.get("service")
        if service == "pipeline":
            if not any(_step_name(s.name) == "finetune" and s.begun for s in steps):
                return
            path = kept_path(job, "metrics", str(self.info.get("run") or self.run.name))
            file.parent.mkdir(parents=True, exist_ok=True)

            def begun_anew() -> int:  # a resumed training takes out lines beyond its checkpoint
                file.write_bytes(b"")
                return 0

            storage = self.connection.storage
            _append(file, 0, lambda offset: storage.read(f"{path}/metrics.jsonl", offset), begun_anew)
            return
        known = max((int(line.get("step", -1)) for line in self.run.metrics()[0]), default=-1)
        runs = [self.job_name, *(step.id for step in steps)]
        for line in service_metrics(self.connection, runs, after=known, ended=ended):
            file.parent.mkdir(parents=True, exist_ok=True)
            append_line(file, line)

    def ended(self, job: Resource, state: RunState, steps: list[HistoryRun]) -> None:
        """All that an ended job has to tell, the state last: whoever sees it finds the rest there."""
        message = fix = ""
        failed: str | None = None
        if state is RunState.FAILED:
            message, fix, failed = self.failure(steps)
        elif state is RunState.CANCELED:
            message = f"Run {self.run.name} was canceled."
            fix = self.go_on() if self.run.resumable else ""
        if self.info.get("service") == "pipeline":
            self.bring(job, "evaluation")
            if not (self.run.folder / "outputs" / "metrics" / "metrics.jsonl").exists():
                self.bring(job, "metrics")  # of a training that was reused, and lies where the first one left it
        fields = {"run": self.run.name, "state": str(state), **({"message": message, "fix": fix} if message else {})}
        self.tell("run-finished", None, self.job_name, **fields)
        self.set_state(state, failed, message, fix)

    def failure(self, steps: list[HistoryRun]) -> tuple[str, str, str | None]:
        broken = next((step for step in steps if step.status == "Failed"), None)
        error = broken.error if broken else None
        if not error:
            error = self.history.details(broken.id if broken else self.job_name).error
        step = _step_name(broken.name) if broken else None
        lines = self.run.log(step)[0] if step else []
        go_on = f"azft resume {self.run.name}" if self.run.resumable else self.run.another
        told = explain(self.run.name, error, step=step, lines=lines[-120:], go_on=go_on)
        fix = told.fix
        if self.run.resumable and go_on not in fix:
            fix = f"{fix}\nWhen that is mended, go on with: azft resume {self.run.name}"
        return told.message, fix, step

    def go_on(self) -> str:
        """What to do after a run that ended before its work was done."""
        if self.run.resumable:
            return f"Go on from the last checkpoint with: azft resume {self.run.name}"
        return f"Start another run of the same plan with: {self.run.another}"

    def bring(self, job: Resource, output: str) -> None:
        """The small files of an output: figures, samples, metrics."""
        prefix = find_output(self.connection, job, output, str(self.info.get("run") or self.run.name))
        if prefix is None:
            return
        storage = self.connection.storage
        for blob in storage.list(prefix):
            below = blob.name.removeprefix(prefix).lstrip("/")
            if blob.size > _LARGE or ".." in Path(below).parts:
                continue
            piece = storage.read(blob.name)
            if piece is not None:
                write_bytes(self.run.folder / "outputs" / output / below, piece.data)


def _append(file: Path, base: int, read: Callable[[int], Piece | None], begun_anew: Callable[[], int]) -> bool:
    """Append to `file` what a growing remote file has beyond it; whether there was anything.

    The remote file's first byte stands at `base` in ours. A few bytes before the end are read again: when they differ,
    the remote file was begun anew, and `begun_anew` says at which of our bytes it starts now.
    """
    have = file.stat().st_size if file.exists() else 0
    offset = max(0, have - base)
    again = min(offset, _OVERLAP)
    piece = read(offset - again)
    if piece is None:
        return False
    tail = _tail(file, again)
    if piece.data[:again] != tail:
        base = begun_anew()
        piece = read(0)
        if piece is None:
            return False
        again = 0
    new = piece.data[again:]
    if new:
        with file.open("ab") as target:
            target.write(new)
    return bool(new)


def _tail(file: Path, length: int) -> bytes:
    if length == 0:
        return b""
    with file.open("rb") as source:
        source.seek(-length, 2)
        return source.read()


def _end_line(file: Path) -> int:
    """End a last line that has no end, so that it is shown; the file's length then."""
    size = file.stat().st_size if file.exists() else 0
    if size and _tail(file, 1) != b"\n":
        with file.open("ab") as target:
            target.write(b"\n")
        size += 1
    return size


def _current(steps: list[HistoryRun]) -> str | None:
    return next((_step_name(step.name) for step in steps if step.status in {"Running", "Finalizing"}), None)


def _as_step(run: HistoryRun) -> HistoryRun:
    """A job without steps of its own, as the one step that it is."""
    return replace(run, name="finetune")


def _step_name(name: str) -> str:
    """A step's name as a file's name."""
    return re.sub(r"[^\w.-]+", "_", name).strip("._") or "step"


def _words(error: Mapping[str, Any] | None) -> str:
    from azft.azureml.errors import read_body

    return " ".join(read_body(dict(error or {}))[1].split())[:500]


def _age(time: Any) -> float:
    """Seconds since a time; without one, as if it were long ago."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(str(time))).total_seconds()
    except ValueError:
        return float("inf")
