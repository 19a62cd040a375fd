"""A plan: what will run where, from what, and what it will cost before it costs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azft.views_html.findings import findings
from azft.views_html.parts import Html, badge, bullets, code, details, element, facts, join, line, page, table
from azft.words import MODES, size

if TYPE_CHECKING:
    from azft.plan import Plan, Target

_SECTIONS = ("technique", "training", "distribution", "evaluation", "output")
_THERE = {True: "already there", False: "to be sent", None: "sent if it isn't there"}


def show(plan: Plan) -> str:
    """The whole plan; the recipe's defaults are a click away."""
    stand_in = plan.model.kind == "stand-in"
    model = join([badge("stand-in", "warning"), " ", plan.model.description]) if stand_in else plan.model.description
    steps = ", ".join(step.name for step in plan.steps)
    rows: list[tuple[str, object]] = [("run", code(plan.run_name)), ("mode", MODES.get(plan.mode, plan.mode))]
    rows.append(("model", model))
    if plan.target is not None and plan.target.model_id != plan.model.description:
        rows.append(("model there", code(plan.target.model_id)))
    if steps:
        rows += [("trains", plan.trainable_words), ("steps", steps)]
    if plan.processes > 1:
        rows.append(("processes", plan.processes))
    data = [(entry.role, entry.path.name, size(entry.bytes)) for entry in plan.inputs]
    return page(
        f"Plan of {plan.run_name}",
        element("div", f"Plan of {plan.run_name}", name="azft-title"),
        facts(rows),
        table("Data", ("data", "file", "size"), data, numbers=("size",)),
        _target(plan.target) if plan.target is not None else Html(),
        findings(plan.findings),
        details("The recipe with every default filled in", facts(_settings(plan))),
    )


def _target(target: Target) -> Html:
    """Where in Azure, what it is told, what is sent, and what is billed."""
    where: list[tuple[str, object]] = [("service", target.service)]
    where += [("region", target.region)] if target.region else []
    machines = target.compute or ", ".join(target.instance_types)
    if machines:
        gpus = f"{target.nodes} × {target.gpus_per_node} GPU, {target.tier}"
        where.append(("machines", f"{machines} ({gpus})"))
    if target.component:
        where.append(("component", code(target.component)))
    told = {**target.hyperparameters, **target.parameters}
    uploads = [
        (up.kind, ":".join(filter(None, [up.name, up.version])), size(up.bytes), _THERE[up.there])
        for up in target.uploads
    ]
    return join(
        [
            facts(where),
            table("Told to the service", ("parameter", "value"), list(told.items())) if told else "",
            table("To be sent", ("kind", "name", "size", "state"), uploads, numbers=("size",)) if uploads else "",
            join([element("div", "What is billed", name="azft-title"), bullets(target.bills)]) if target.bills else "",
        ]
    )


def _settings(plan: Plan) -> list[tuple[str, object]]:
    finetune = next((step.parameters for step in plan.steps if step.name == "finetune"), {})
    sections = ((name, finetune.get(name) or plan.recipe.get(name)) for name in _SECTIONS)
    return [(name, line(section)) for name, section in sections if isinstance(section, dict)]
