"""How a run is watched: live at a terminal, plain lines without one, NDJSON for programs. All read the same events.

Events are those of the run's events.jsonl, plus `log` and `metrics` (azft.runs.watching); unknown ones are passed over.
Progress goes to standard error; only the NDJSON events are data.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from azft.cli.render import Output, clean, console, note, symbols

if TYPE_CHECKING:
    from rich.console import RenderableType

Event = dict[str, Any]
PLAIN_INTERVAL = 5.0
"""Seconds between two plain lines of training metrics; a log of a long run stays readable."""


class Watcher:
    """A sink for events, used as a context manager. Base: knows nothing and shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Take one event. A reader that went away must not end the run, so its absence is passed over."""
        try:
            self.show(event)
        except BrokenPipeError:
            self.show = self._nothing  # type: ignore[method-assign]

    def show(self, event: Event) -> None:
        """Show one event."""

    def close(self) -> None:
        """Leave the terminal as it was."""

    def _nothing(self, event: Event) -> None:
        pass


def watcher(output: Output, *, follow: bool) -> Watcher:
    """The right one for this output and terminal; `follow` shows the steps' own lines too."""
    if output.format == "json":
        return Json(output)
    if output.format == "none":
        return Watcher()
    return (
        Live(follow=follow)
        if sys.stderr.isatty() and not console(stderr=True).is_dumb_terminal
        else Plain(follow=follow)
    )


class Json(Watcher):
    """Every event as a line of JSON on standard output."""

    def __init__(self, output: Output) -> None:
        self.output = output

    def show(self, event: Event) -> None:
        """Write it at once."""
        self.output.stream(event)


@dataclass
class Training:
    """What is known of the training from its metrics."""

    step: int = 0
    total: int | None = None
    loss: float | None = None
    eval_loss: float | None = None
    tokens_per_second: float | None = None
    losses: list[float] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic
    _first: tuple[int, float] | None = None

    def take(self, line: Event) -> None:
        """Add a line of metrics.jsonl."""
        self.step = int(line.get("step", self.step))
        total = line.get("total_steps", self.total)
        self.total = None if total is None else int(total)  # what comes by MLflow is a float
        self.eval_loss = line.get("eval_loss", self.eval_loss)
        self.tokens_per_second = line.get("tokens_per_second", self.tokens_per_second)
        if line.get("loss") is not None:
            self.loss = float(line["loss"])
            self.losses.append(self.loss)
        if self._first is None:
            self._first = (self.step, self.clock())

    @property
    def remaining(self) -> float | None:
        """Seconds to go at the pace so far, None while that can't be said."""
        if self._first is None or not self.total or self.step <= self._first[0]:
            return None
        pace = (self.clock() - self._first[1]) / (self.step - self._first[0])
        return max(0.0, (self.total - self.step) * pace)

    def words(self, *, evaluated: bool = True) -> str:
        """`step 12/60  loss 3.214  eval loss 3.301  8,120 tokens/s  12 s to go`; the last evaluation if `evaluated`."""
        from azft.cli.views import duration

        parts = [f"step {self.step}" + (f"/{self.total}" if self.total else "")]
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if evaluated and self.eval_loss is not None:
            parts.append(f"eval loss {self.eval_loss:.3f}")
        if self.tokens_per_second is not None:
            parts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        remaining = self.remaining
        if remaining is not None and self.step != self.total:
            parts.append(f"{duration(remaining)} to go")
        return "  ".join(parts)


class Plain(Watcher):
    """A line now and then, for logs and pipes."""

    def __init__(self, *, follow: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.follow = follow
        self.training = Training(clock=clock)
        self.clock = clock
        self._last = float("-inf")
        self._waiting: str | None = None

    def show(self, event: Event) -> None:
        """Steps as they come and go; metrics every few seconds, and each evaluation."""
        from azft.cli.azure_words import words
        from azft.cli.views import duration

        kind, step = event.get("event"), event.get("step")
        if kind == "step-started":
            note(f"{step}: started")
        elif kind == "step-reused":
            source = f" from {event['source']}" if event.get("source") else ""
            note(f"{step}: reused{source}, nothing it depends on has changed")
        elif kind == "step-finished":
            if self._waiting is not None:  # the end's line, where no evaluation came with it
                note(self._waiting)
                self._waiting = None
            note(f"{step}: done in {duration(event.get('seconds', 0))}")
        elif kind == "step-failed":
            note(f"{step}: failed")
        elif text := words(event):
            note(text)
        elif kind == "log" and self.follow:
            note(f"{step} | {event.get('line', '')}")
        elif kind == "metrics" and not self.follow:
            line = event["metrics"]
            self.training.take(line)
            evaluated = "eval_loss" in line
            shown = f"{step}: {self.training.words(evaluated=evaluated)}"
            due = evaluated or self.clock() - self._last >= PLAIN_INTERVAL
            last = self.training.step == self.training.total
            self._waiting = shown if last and not due else None
            if due:
                self._last = self.clock()
                note(shown)


STYLES = {"running": "cyan", "done": "green", "reused": "green", "failed": "red"}
"""What a step's state is shown in."""


class Live(Watcher):
    """A table of steps and a line of training that redraw themselves in place."""

    def __init__(self, *, follow: bool) -> None:
        from rich.live import Live as RichLive

        self.follow = follow
        self.training = Training()
        self.steps: dict[str, tuple[str, float | None, float]] = {}
        """Step -> (state, seconds when it has ended, when it started)."""
        self.console = console(stderr=True)
        self.curves = symbols(sys.stderr)  # asked now, because rich puts its own stream there while it draws
        self.live = RichLive(get_renderable=self.render, console=self.console, refresh_per_second=8, transient=False)
        self.live.start()

    def show(self, event: Event) -> None:
        """Take the event in; the next redraw shows it."""
        from azft.cli.azure_words import words

        kind, step = event.get("event"), str(event.get("step", ""))
        now = time.monotonic()
        if kind == "step-started":
            self.steps[step] = ("running", None, now)
        elif kind == "step-reused":
            self.steps[step] = ("reused", None, now)
        elif kind in {"step-finished", "step-failed"}:
            began = self.steps.get(step, ("", None, now))[2]
            self.steps[step] = (
                "done" if kind == "step-finished" else "failed",
                event.get("seconds", now - began),
                began,
            )
        elif kind == "metrics":
            self.training.take(event["metrics"])
        elif text := words(event):
            self.console.print(clean(text), soft_wrap=True)
        elif kind == "log" and self.follow:
            self.console.print(clean(f"{step} | {event.get('line', '')}"), soft_wrap=True)

    def render(self) -> RenderableType:
        """The picture of this moment."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        from azft.cli.views import duration

        grid = Table.grid(padding=(0, 2, 0, 0))
        for step, (state, seconds, began) in self.steps.items():
            spent = seconds if seconds is not None else time.monotonic() - began if state == "running" else None
            grid.add_row(
                Text(step),
                Text(state, style=STYLES[state]),
                Text("" if spent is None else duration(spent), style="dim"),
            )
        parts: list[RenderableType] = [grid]
        if self.training.step:
            curve = sparkline(self.training.losses) if self.curves else ""
            line = Text.assemble((f"{curve}  " if curve else "", "cyan"), self.training.words())
            line.no_wrap, line.overflow = True, "ellipsis"
            parts.append(line)
        return Group(*parts)

    def close(self) -> None:
        """Draw a last time and give the terminal back."""
        self.live.stop()


def sparkline(values: list[float], width: int = 20) -> str:
    """The last values as a curve of block characters; empty for fewer than two."""
    finite = [value for value in values[-400:] if value == value and abs(value) != float("inf")]
    if len(finite) < 2:
        return ""
    size = max(1, len(finite) // width)
    means = [sum(finite[i : i + size]) / len(finite[i : i + size]) for i in range(0, len(finite), size)][-width:]
    low, high = min(means), max(means)
    blocks = "▁▂▃▄▅▆▇█"
    return "".join(blocks[round((value - low) / ((high - low) or 1) * (len(blocks) - 1))] for value in means)
