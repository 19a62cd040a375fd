"""Where a run stands and what came of it, read from its folder in one go: what `azft status` and `azft runs` show."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from azft.findings import Finding
from azft.runs import Run


@dataclass(frozen=True)
class RunSummary:
    """One run. Times are UTC, ISO 8601; `training` is the last line of metrics; losses are per label token, in nats."""

    name: str
    state: str
    time: str
    step: str | None
    message: str
    fix: str
    attempt: int
    mode: str
    created: str
    """When its plan was made."""
    started: str | None
    """When it was first begun here, or taken by Azure; None before that."""
    model: str
    stand_in: bool
    folder: str
    training: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    outputs: dict[str, str]
    findings: tuple[Finding, ...] = ()
    """What is to be said of the result."""
    azure: dict[str, Any] | None = None
    """Where in Azure it runs, and when its record here was last brought up to date; None for a run on this machine."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "findings": [finding.to_dict() for finding in self.findings]}


def summarize(run: Run) -> RunSummary:
    """Read a run's folder. Missing parts (no metrics yet, no evaluation yet) are None."""
    status, plan = run.status(), run.plan
    return RunSummary(
        name=run.name,
        state=str(status.state),
        time=status.time,
        step=status.step,
        message=status.message,
        fix=status.fix,
        attempt=status.attempt,
        mode=plan["mode"],
        created=plan["created"],
        started=run.started(),
        model=run.model,
        stand_in=plan["model"]["kind"] == "stand-in",
        folder=str(_short(run.folder)),
        training=_training(run),
        evaluation=run.evaluation(),
        findings=run.findings(),
        outputs={name: str(_short(path)) for name, path in run.outputs().items()},
        azure=_azure(run) if run.remote else None,
    )


def _azure(run: Run) -> dict[str, Any]:
    record = run.azure
    return {
        "workspace": record["workspace"],
        "job": record["job"],
        "studio_url": record["studio_url"],
        "refreshed": run.refreshed(),
    }


def _training(run: Run) -> dict[str, Any] | None:
    """The newest value of each metric, so that the line of an evaluation doesn't hide the loss before it."""
    lines, _ = run.metrics()
    merged: dict[str, Any] = {}
    for line in lines:
        merged.update(line)
    return merged or None


def _short(path: Path) -> Path:
    """Relative to where the person is, when the path lies below."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path
