"""How far a run is, read from its events and metrics: which step is at what, and the loss so far."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

WAITING = "waiting"
_STATES = {
    "step-started": "running",
    "step-reused": "reused",
    "step-finished": "done",
    "step-failed": "failed",
    "step-canceled": "canceled",
}


@dataclass
class StepProgress:
    """One step: waiting, running, done, reused, failed or canceled; `seconds` when it has ended."""

    name: str
    state: str = WAITING
    seconds: float | None = None
    started: float | None = None
    """Seconds since 1970."""


@dataclass
class Progress:
    """What a run's events add up to. Losses are per label token, in nats; a step is named once, its last value kept."""

    steps: dict[str, StepProgress] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    eval_losses: dict[int, float] = field(default_factory=dict)
    latest: dict[str, Any] = field(default_factory=dict)
    """The newest value of each metric."""

    @classmethod
    def of(cls, steps: Iterable[str]) -> Progress:
        """Before the first event: all steps that are known to come wait."""
        return cls({name: StepProgress(name) for name in steps})

    def take(self, event: dict[str, Any]) -> None:
        """Add an event of `azft.runs.watching`; those that say nothing about progress are passed over."""
        kind = event.get("event")
        if kind == "metrics":
            self._take_metrics(event["metrics"])
        elif kind in _STATES and event.get("step"):
            name = str(event["step"])
            step = self.steps.setdefault(name, StepProgress(name))
            step.state = _STATES[kind]
            time = _seconds(event.get("time"))
            if kind == "step-started":
                step.started, step.seconds = time, None
            elif event.get("seconds") is not None:
                step.seconds = float(event["seconds"])
            elif step.started is not None and time is not None:
                step.seconds = time - step.started
        elif kind == "run-finished":
            for step in self.steps.values():
                if step.state == "running":
                    step.state = "stopped"

    def _take_metrics(self, line: dict[str, Any]) -> None:
        self.latest.update(line)
        step = line.get("step")
        if not isinstance(step, int):
            return
        for name, curve in (("loss", self.losses), ("eval_loss", self.eval_losses)):
            value = line.get(name)
            if isinstance(value, int | float) and math.isfinite(value):
                curve[step] = float(value)


def _seconds(time: Any) -> float | None:
    try:
        return datetime.fromisoformat(time).timestamp()
    except (TypeError, ValueError):
        return None
