"""A run: where it stands, how far each step is, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from azft.views_html.findings import findings
from azft.views_html.parts import Html, badge, code, details, element, facts, join, page, table
from azft.words import MODES, duration, model_name, place, plural

if TYPE_CHECKING:
    from azft.runs import Run, Status
    from azft.runs.progress import Progress

_STATES = {"Completed": "good", "Failed": "error", "Canceled": "warning", "Interrupted": "warning"}
_STEPS = {
    "done": "good",
    "reused": "good",
    "failed": "error",
    "canceled": "warning",
    "stopped": "warning",
    "running": "info",
}
_SAMPLES = 5
"""Answers of before and after that are shown."""


def show(run: Run) -> str:
    """All that is known of a run."""
    status, plan = run.status(), run.plan
    model = model_name(run.model)
    stand_in = badge("stand-in", "warning") if plan["model"]["kind"] == "stand-in" else ""
    rows: list[tuple[str, object]] = [
        ("mode", MODES.get(plan["mode"], plan["mode"])),
        ("model", join([stand_in, " ", model]) if stand_in else model),
        ("folder", code(place(run.folder))),
    ]
    if run.remote and (link := run.azure.get("studio_url")):
        rows.append(("job", studio(str(link))))
    outputs = [(name, code(place(path))) for name, path in run.outputs().items()]
    progress = run.progress()
    return page(
        f"Run {run.name}",
        heading(run.name, status),
        facts(rows),
        steps(progress),
        element("p", training(progress)) if progress.latest else Html(),
        outcome(run),
        samples(run.samples()),
        details(plural(len(outputs), "output"), facts(outputs)) if outputs else Html(),
    )


def heading(name: str, status: Status) -> Html:
    """The run's name and state, and what there is to say about it."""
    state = str(status.state)
    title = element("div", join([f"Run {name} ", badge(state, _STATES.get(state, "info"))]), name="azft-title")
    said = [part for part in (status.message, status.fix) if part]
    return join([title, *(element("div", part, name="azft-dim") for part in said)])


def steps(progress: Progress, *, now: float | None = None) -> Html:
    """A table of the steps. With `now` (seconds since 1970) a running step's time so far is shown."""
    rows = []
    for step in progress.steps.values():
        spent = step.seconds
        if spent is None and now is not None and step.started is not None and step.state == "running":
            spent = now - step.started
        state = badge(step.state, _STEPS[step.state]) if step.state in _STEPS else step.state
        rows.append((step.name, state, "" if spent is None else duration(spent)))
    return table("Steps", ("step", "state", "time"), rows, numbers=("time",)) if rows else Html()


def training(progress: Progress) -> str:
    """`step 84 of 84, loss 1.207, eval loss 1.398, 9,120 tokens/s`."""
    latest = progress.latest
    total = f" of {latest['total_steps']:,.0f}" if _number(latest, "total_steps") else ""
    words = [f"step {latest.get('step', 0):,.0f}{total}"]
    words += [f"{name.replace('_', ' ')} {latest[name]:.3f}" for name in ("loss", "eval_loss") if _number(latest, name)]
    if _number(latest, "tokens_per_second"):
        words.append(f"{latest['tokens_per_second']:,.0f} tokens/s")
    return ", ".join(words)


def outcome(run: Run) -> Html:
    """Base and tuned model beside each other, and what is to be said of it."""
    said = run.findings()
    return join([evaluation(run.evaluation()), findings(said) if said else Html()])


def evaluation(found: dict[str, Any] | None) -> Html:
    """Base and tuned model beside each other on the held-out rows."""
    base, tuned = ((found or {}).get(which) or {} for which in ("base", "tuned"))
    rows = [
        (name.replace("_", " "), f"{base[name]:.3f}", f"{tuned[name]:.3f}")
        for name in base
        if _number(base, name) and _number(tuned, name)
    ]
    if not rows:
        return Html()
    caption = f"On {plural(int((found or {}).get('rows', 0)), 'held-out row')}"
    return table(caption, ("metric", "before", "after"), rows, numbers=("before", "after"))


def samples(found: list[dict[str, Any]]) -> Html:
    """What the model said to held-out prompts before and after, beside what the data says."""
    if not found:
        return Html()
    columns = ("prompt", "before", "after", "the data's own answer")
    rows = [[sample.get(key, "") for key in ("prompt", "base", "tuned", "reference")] for sample in found[:_SAMPLES]]
    return details("Answers before and after", table("Answers to held-out prompts", columns, rows))


def studio(link: str) -> Html:
    """A link, when it is one that a browser may follow."""
    return element("a", "in the studio", href=link) if link.startswith("https://") else code(link)


def _number(values: dict[str, Any], name: str) -> bool:
    return isinstance(values.get(name), int | float) and not isinstance(values.get(name), bool)
