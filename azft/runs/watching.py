"""Watching a run from any process: what is new since the last look, each line once, none lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from azft.runs.record import Run

Event = dict[str, Any]


class Watcher:
    """Remembers by byte offset how far it has read. Log lines and metrics come in the same shape as live events."""

    def __init__(self, run: Run, *, from_start: bool = False) -> None:
        """Watch from now on, or from the run's start."""
        self.run = run
        self._events = 0
        self._metrics = 0
        self._logs: dict[str, int] = {}
        if not from_start:
            for _ in self.news():
                pass

    def news(self) -> Iterator[Event]:
        """Log lines, metrics and events that came since the last call; events last, so that a step's end ends it."""
        # Events are read first: whatever a step wrote before the event that ends it is then there to be read too.
        events, self._events = self.run.events(self._events)
        for step in self.run.log_steps():
            lines, self._logs[step] = self.run.log(step, self._logs.get(step, 0))
            yield from ({"event": "log", "step": step, "line": line} for line in lines)
        metrics, self._metrics = self.run.metrics(self._metrics)
        yield from ({"event": "metrics", "step": "finetune", "metrics": line} for line in metrics)
        yield from events
