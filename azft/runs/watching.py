"""Watching a run from any process: what is new since the last look, each line once, none lost.

A run elsewhere is brought up to date first, by whoever knows the place (`refresh_with`): the record below `.azft` is
then read as if it ran here. A place that does not answer is no news of the run: watching rides over it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from azft.errors import UnreachableError
from azft.runs.record import Run, Status, now

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


@dataclass
class Pace:
    """Seconds between two looks: short while there is news, longer and longer while there is none."""

    first: float
    longest: float
    current: float = 0.0

    @classmethod
    def of(cls, run: Run) -> Pace:
        """A tenth of a second here; half a second to five where each look costs requests."""
        return cls(0.5, 5.0) if run.remote else cls(0.1, 0.1)

    def next(self, *, news: bool) -> float:
        """How long to wait now."""
        self.current = self.first if news or not self.current else min(self.current * 1.3, self.longest)
        return self.current


class Refresher:
    """Brings a remote run's record up to date, and tells of outages instead of ending on them."""

    def __init__(
        self,
        run: Run,
        on_event: Callable[[Event], None] | None,
        refresh_run: Callable[[Run], None] | None = None,
    ) -> None:
        self.run = run
        self.on_event = on_event or (lambda _: None)
        self.refresh = refresh_run or refresh
        self.unreachable = False

    def __call__(self) -> bool:
        """Whether the record is now as the place says. Always so for a run on this machine."""
        if not self.run.remote:
            return True
        try:
            self.refresh(self.run)
        except UnreachableError as error:
            if not self.unreachable:
                self.on_event({"event": "unreachable", "time": now(), "message": error.message, "fix": error.fix})
            self.unreachable = True
            return False
        if self.unreachable:
            self.on_event({"event": "reachable", "time": now()})
        self.unreachable = False
        return True


_refresh: Callable[[Run], None] | None = None


def refresh_with(function: Callable[[Run], None]) -> None:
    """Say how a run elsewhere is brought up to date. The modes do, which know where it runs."""
    global _refresh  # noqa: PLW0603 - one for the process, set by the layer above
    _refresh = function


def refresh(run: Run) -> None:
    """Bring a remote run's record up to date. Raises `UnreachableError` when the place does not answer."""
    if run.remote and _refresh is not None:
        _refresh(run)


def follow(
    run: Run,
    on_event: Callable[[Event], None] | None = None,
    *,
    timeout: float | None = None,
    watcher: Watcher | None = None,
    refresh_run: Callable[[Run], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Status:
    """Follow a run to its end, passing on events, metrics and log lines as they come; returns how it ended.

    `timeout` is in seconds; when it is over the status is returned as it is. Nothing is ever stopped by this. By
    default the watching starts now; a `watcher` says from where instead, and `refresh_run` how a remote run's record
    is brought up to date.
    """
    tell = on_event or (lambda _: None)
    watcher = watcher or Watcher(run)
    deadline = None if timeout is None else time.monotonic() + timeout
    bring, pace = Refresher(run, tell, refresh_run), Pace.of(run)
    while True:
        bring()
        status = run.status()  # before the lines: whatever was written before the end is then read
        news = False
        for event in watcher.news():
            news = True
            tell(event)
        if not status.state.active or (deadline is not None and time.monotonic() >= deadline):
            return status
        sleep(pace.next(news=news))
