"""`azft submit --rehearse`: the whole way on this machine, each part shown as it is done, and what it proved."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from azft.cli.progress import Watcher, watcher
from azft.cli.render import Output, note, write
from azft.errors import AzftError, ExitCode

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.plan import Plan
    from azft.rehearsal.flow import Report

TITLES = {
    "plan": "Plan",
    "stage": "Set the stage",
    "submit": "Submit, and watch",
    "register": "Register the model",
    "deploy": "Deploy it",
    "chat": "Ask it something",
    "down": "Take everything down",
}


def rehearse(plan: Plan, output: Output, *, follow: bool, create_compute: bool) -> int:
    """Rehearse a plan and show it."""
    from azft.cli.results import error_event
    from azft.rehearsal import flow

    if output.is_table:
        note(flow.INTRODUCTION)
        note("")
    with Parts(output, follow=follow) as on_event:
        try:
            report = flow.rehearse(plan, create_compute=create_compute, on_event=on_event)
        except AzftError as error:
            if output.format == "json":
                output.stream(error_event(error))
            elif output.is_table:
                note("\nThe rehearsal ended here. Its records are in .azft/rehearsal.")
            raise
    if output.format == "json":
        output.stream({"event": "result", **report.to_dict()})
    else:
        output.show(report.to_dict(), lambda: view(report))
    if output.is_table:
        note("\nThe real thing is the same command without --rehearse.")
    return ExitCode.DONE


class Parts(Watcher):
    """The parts of a rehearsal as numbered lines; a run's own events as everywhere, while it runs."""

    def __init__(self, output: Output, *, follow: bool) -> None:
        self.output, self.follow = output, follow
        self.inner: Watcher | None = None
        self.stack = ExitStack()

    def show(self, event: dict[str, Any]) -> None:
        """One event."""
        if self.output.format == "json":
            self.output.stream(event)
        elif self.output.format != "none":
            if event["event"] == "rehearsal":
                self._part(event)
            elif self.inner is not None:
                self.inner(event)

    def close(self) -> None:
        """Give the terminal back."""
        self.inner = None
        self.stack.close()

    def _part(self, event: dict[str, Any]) -> None:
        from azft.cli.views import duration, text

        if event["state"] == "started":
            write(text(f"{event['number']}/{event['of']}  {TITLES[event['part']]}", "bold"), stderr=True)
            if event["part"] == "submit":
                self.inner = self.stack.enter_context(watcher(self.output, follow=self.follow))
            return
        self.close()
        note(f"     {event['said']}" + (f"  ({duration(event['seconds'])})" if event["seconds"] >= 1 else ""))


def view(report: Report) -> RenderableType:
    """What it showed and what it could not show."""
    from rich.console import Group
    from rich.text import Text

    from azft.cli import views

    served = [
        ("endpoint", f"{report.endpoint} (ended)"),
        ("question", report.question),
        (
            "answer",
            report.answer + ("  (of a stand-in: it proves the way, not the quality)" if report.stand_in else ""),
        ),
    ]
    facts = views.facts(
        [
            ("run", report.run),
            ("service", report.service),
            *(served if report.endpoint else []),
            ("records", report.home),
        ]
    )
    shown = [Text(f"  - {line}") for line in report.shown]
    not_shown = [Text(f"  - {line}") for line in report.not_shown]
    return Group(
        Text(""), facts, Text(""), views.heading("What this showed"), *shown,
        Text(""), views.heading("What it can't show"), *not_shown,
    )  # fmt: skip
