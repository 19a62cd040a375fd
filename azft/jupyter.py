"""Watching a run: in a notebook as a page and a curve that keep themselves up to date, elsewhere as lines of text.

Only reads: stopping the cell never stops the run.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import Any, Protocol

from azft import api
from azft.errors import AzftError, InterruptedRunError, JobFailedError, MissingDependencyError
from azft.runs import Run, RunState, Status
from azft.runs.progress import Progress
from azft.runs.watching import Watcher, follow
from azft.views_html import run as page
from azft.views_html.parts import Html, badge, element, join
from azft.views_html.parts import page as whole
from azft.words import duration

_DRAW = 1.0
"""Seconds between two drawings: a curve takes a tenth of a second."""
_SAY = 5.0
"""Seconds between two lines of text about the training."""


def watch(run: Run | str, *, timeout: float | None = None) -> None:
    """Follow a run to its end (or for `timeout` seconds) and show how it goes; of an ended run, what came of it.

    Raises `JobFailedError` when the run failed or was canceled, so that "Run all" ends there, and
    `InterruptedRunError` when the watching was interrupted (the run goes on) or the run itself was.
    """
    found = api.get_run(run)
    screen: Screen = Notebook(found) if in_notebook() else Text(found)
    progress = found.progress()

    def on_event(event: dict[str, Any]) -> None:
        progress.take(event)
        screen.take(event, progress)

    def sleep(seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            screen.show(found.recorded_status(), progress)
            time.sleep(min(left, _DRAW))

    try:
        status = follow(found, on_event, timeout=timeout, watcher=Watcher(found, from_start=True), sleep=sleep)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"Stopped watching; run {found.name} goes on.", fix=f"Watch again: azft.watch({found.name!r})"
        ) from None
    screen.show(status, progress, last=True)
    _raise_for(found, status)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this, which can show pages and pictures."""
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


class Screen(Protocol):
    """Where a run is shown."""

    def take(self, event: dict[str, Any], progress: Progress) -> None:
        """An event that `progress` knows already."""
        ...

    def show(self, status: Status, progress: Progress, *, last: bool = False) -> None:
        """How things stand; called often."""
        ...


class Notebook:
    """A page with the steps and a curve below it, redrawn in place."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.changed = True
        self.drawn = float("-inf")
        self.outage = ""
        self.page = _ipython().display(_markup(""), display_id=True)
        self.curve = _ipython().display(_markup(""), display_id=True)

    def take(self, event: dict[str, Any], progress: Progress) -> None:  # noqa: ARG002
        """A line of a log changes nothing that is seen here."""
        kind = event.get("event")
        self.changed = self.changed or kind != "log"
        if kind in {"unreachable", "reachable"}:
            self.outage = str(event.get("message", ""))

    def show(self, status: Status, progress: Progress, *, last: bool = False) -> None:
        """Draw, unless it was drawn a moment ago."""
        now = time.monotonic()
        if not last and now - self.drawn < _DRAW:
            return
        running = any(step.state == "running" for step in progress.steps.values())
        if self.changed or running or last:
            self.drawn = now
            self.page.update(_markup(whole(f"Run {self.run.name}", *_parts(self.run, status, progress, self.outage))))
        if (self.changed or last) and progress.losses:
            self.curve.update(self._picture(progress))
        self.changed = False

    def _picture(self, progress: Progress) -> Any:
        from azft.curve import describe_curve, draw_curve

        total = progress.latest.get("total_steps")
        try:
            picture = draw_curve(progress.losses, progress.eval_losses, total=total)
        except MissingDependencyError as error:
            return _markup(whole("Loss curve", element("p", f"{error.message} {error.fix}", name="azft-dim")))
        return _ipython().Image(picture, width=700, alt=describe_curve(progress.losses, progress.eval_losses))


class Text:
    """Lines on standard output."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.said = float("-inf")
        self._say(f"Run {run.name}")

    def take(self, event: dict[str, Any], progress: Progress) -> None:
        """Steps as they come and go, the training every few seconds."""
        kind, name = event.get("event", ""), event.get("step")
        if kind == "metrics":
            at_end = progress.latest.get("step") == progress.latest.get("total_steps")
            if at_end or time.monotonic() - self.said >= _SAY:
                self.said = time.monotonic()
                self._say(f"{name}: {page.training(progress)}")
        elif kind in {"unreachable", "reachable"}:
            self._say(
                f"No answer: {event['message']} The run goes on." if kind == "unreachable" else "It answers again."
            )
        elif kind.startswith("step-"):
            step = progress.steps[str(name)]
            spent = "" if step.seconds is None else f" in {duration(step.seconds)}"
            self._say(f"{name}: {step.state}{spent}")

    def show(self, status: Status, progress: Progress, *, last: bool = False) -> None:  # noqa: ARG002
        """The end."""
        if last:
            said = (part for part in (f"{self.run.name}: {status.state}", status.message) if part)
            self._say(". ".join(said))
            for finding in self.run.findings():
                self._say(str(finding))

    def _say(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _parts(run: Run, status: Status, progress: Progress, outage: str) -> list[Html]:
    parts = [page.heading(run.name, status), page.steps(progress, now=time.time())]
    if outage:
        parts.append(
            element("p", join([badge("no answer", "warning"), f" {outage} The run goes on; this is as last seen."]))
        )
    if progress.latest:
        parts.append(element("p", page.training(progress)))
    if status.state is RunState.COMPLETED:
        parts.append(page.outcome(run))
    return parts


def _markup(html: str) -> Any:
    return _ipython().HTML(html)


def _ipython() -> Any:
    return import_module("IPython.display")  # a kernel has it; its functions carry no types


def _raise_for(run: Run, status: Status) -> None:
    error: type[AzftError] | None = {
        RunState.FAILED: JobFailedError,
        RunState.CANCELED: JobFailedError,
        RunState.INTERRUPTED: InterruptedRunError,
    }.get(status.state)
    if error is not None:
        raise error(status.message or f"Run {run.name} ended as {status.state}.", fix=status.fix)
