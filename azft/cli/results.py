"""Watching a run to its end and showing what came of it: shared by submit, resume, status and logs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.cli.progress import watcher
from azft.cli.render import Output, note, write
from azft.data.model_folder import is_pipeline, reading_class
from azft.errors import AzftError, ExitCode
from azft.words import MODES, minute, model_name

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azft.plan import Plan
    from azft.run_summary import RunSummary
    from azft.runs import Run


_AZURE = {"workspace": "workspace", "job": "job", "studio": "studio_url"}
"""What a person reads -> what the summary calls it."""


def announce(plan: Plan, output: Output, *, again: bool = False) -> None:
    """Say on standard error what is about to run, and its warnings; `again`: it gets a name that is not known yet."""
    from azft.cli import views
    from azft.findings import Severity

    if output.is_table:
        shown = [finding for finding in plan.findings if finding.severity is not Severity.INFO]
        if shown and not plan.has_errors:
            write(views.findings(shown, stderr=True), stderr=True)
            note("")
        note(f"{'Another run of' if again else 'Run'} {plan.run_name} ({plan.mode})")


def refresh(run: Run, access: Any) -> None:
    """Bring a run's record up to date; when Azure does not answer, say so, and that what follows was known before."""
    from azft import api
    from azft.errors import UnreachableError

    try:
        api.refresh(run, access=access)
    except UnreachableError as error:
        when = run.refreshed()
        known = f"What follows was known at {minute(when)} UTC." if when else "Nothing newer is known."
        note(f"{error.message} {known}")


def watch(start: Callable[[Callable[[dict[str, Any]], None]], Run], output: Output, *, follow: bool, wait: bool) -> int:
    """Start or join a run, show its progress, then its result. Errors are raised, after a JSON line of them."""
    from azft import api

    with watcher(output, follow=follow) as on_event:
        try:
            run = start(on_event)
        except AzftError as error:
            if output.format == "json":
                output.stream(error_event(error))
            raise
    summary = api.summarize(run)
    if output.format == "json":
        output.stream({"event": "result", **summary.to_dict()})
    else:
        output.show(summary.to_dict(), lambda: view(summary))
    if output.is_table:
        note(_next(summary, wait=wait))
    return ExitCode.DONE


def view(summary: RunSummary) -> RenderableType:
    """A run as a person reads it."""
    from rich.console import Group
    from rich.text import Text

    from azft.cli import views
    from azft.cli.progress import Training

    styles = {"Completed": "green", "Failed": "red", "Canceled": "yellow", "Interrupted": "yellow"}
    state = Text(summary.state, style=styles.get(summary.state, "cyan"))
    if summary.step and summary.state != "Completed":
        state += Text(f" in {summary.step}")
    rows: list[tuple[str, Any]] = [("run", summary.name), ("state", state)]
    rows.append(("mode", MODES.get(summary.mode, summary.mode)))
    rows.append(("model", Text(model_name(summary.model), style="yellow" if summary.stand_in else "")))
    if summary.message:
        rows.append(("message", summary.message))
    if summary.training:
        training = Training()
        training.take(summary.training)
        rows.append(("training", training.words()))
    if summary.azure:
        rows += [(name, summary.azure[key]) for name, key in _AZURE.items() if summary.azure[key]]
        if when := summary.azure["refreshed"]:
            rows.append(("as of", f"{minute(when)} UTC"))
    rows.append(("folder", summary.folder))
    rows += [(f"  {name}", path) for name, path in summary.outputs.items()]
    parts: list[RenderableType] = [views.facts(rows)]
    if summary.evaluation:
        parts += [Text(""), _evaluation(summary.evaluation)]
    if summary.findings:
        parts += [Text(""), views.findings(summary.findings)]
    if summary.fix:
        parts += [Text(""), views.text(summary.fix)]
    return Group(*parts)


def _evaluation(found: dict[str, Any]) -> RenderableType:
    from azft.cli import views

    base, tuned = found.get("base") or {}, found.get("tuned") or {}
    title = f"on {views.plural(int(found.get('rows', 0)), 'held-out row')}"
    rows = [
        (name.replace("_", " "), f"{base[name]:.3f}", f"{tuned[name]:.3f}")
        for name in base
        if isinstance(base[name], (int, float)) and isinstance(tuned.get(name), (int, float))
    ]
    return views.table((title, "before", "after"), rows, right=("before", "after"))


def _next(summary: RunSummary, *, wait: bool) -> str:
    if not wait and summary.state not in {"Completed", "Failed"}:
        return f"It goes on by itself. Watch: azft logs {summary.name} --follow   End it: azft cancel {summary.name}"
    if summary.azure:
        return f"Serve it: azft deploy {summary.name}   Its files: azft outputs {summary.name}"
    packaged = summary.outputs.get("packaged")
    if packaged is not None and (head := reading_class(Path(packaged))) is not None:
        samples = Path(summary.outputs["evaluation"]) / "samples.jsonl"
        marks = head.endswith("ForQuestionAnswering")
        asked = """--row '{"question": "...", "context": "..."}'""" if marks else '--prompt "..."'
        return f"What it told about held-out rows: {samples}\nAsk it: azft chat {summary.name} {asked}"
    if packaged is not None and is_pipeline(Path(packaged)):
        return f"What it painted: {Path(summary.outputs['evaluation']) / 'pictures'}"
    return f"Talk to it: azft chat {summary.name}"


def error_event(error: AzftError) -> dict[str, Any]:
    """The line of JSON that an error is."""
    from azft.redact import redact

    findings = [finding.to_dict() for finding in getattr(error, "findings", ())]
    fields = {"message": redact(error.message), "fix": redact(error.fix), "exit_code": int(error.exit_code)}
    return {"event": "error", **fields, "findings": findings}
