"""How a plan for Azure reads: where it runs, what is uploaded, what the service is told, what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from azft.cli import views

if TYPE_CHECKING:
    from azft.plan import Plan, Target

_SERVICES = {
    "serverless-finetuning": "Azure's serverless fine-tuning",
    "finetuning-job": "a fine-tuning job on machines of your own",
    "system-pipeline": "the registry's pipeline on machines of your own",
    "pipeline": "azft's pipeline on machines of your own",
}
_THERE = {None: "", True: "there already", False: "to be sent"}


def view(plan: Plan, target: Target, overrides: tuple[str, ...] = ()) -> RenderableType:
    """The whole plan."""
    from azft.cli.plan import next_command, settings

    blocks: list[RenderableType] = [views.facts(_head(plan, target)), Text("")]
    blocks += [_uploads(target), Text("")]
    if target.service == "pipeline":
        blocks += [views.heading("Recipe, defaults filled in"), views.facts(settings(plan)), Text("")]
    elif told := {**target.hyperparameters, **target.parameters}:
        blocks += [views.heading("What the service is told"), views.facts(told.items()), Text("")]
    if target.bills:
        blocks += [views.heading("What is billed"), *(Text(f"- {line}") for line in target.bills), Text("")]
    return Group(*blocks, *views.closing(plan.findings), *next_command(plan, "Send it with", overrides))


def _head(plan: Plan, target: Target) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("run", plan.run_name),
        ("mode", f"{plan.mode}: {_SERVICES[target.service]}; planning sends nothing"),
        ("model", target.model_id),
    ]
    if target.service == "pipeline":
        rows.append(("trains", plan.trainable_words))
    if target.service == "serverless-finetuning":
        rows.append(("region", target.region or "the workspace's"))
    else:
        rows.append(("machines", _machines(target)))
    rows.append(("job", _job(plan, target)))
    if target.service != "pipeline":
        rows.append(("result", f"registered as {plan.recipe['output']['model_name'] or plan.name}"))
    return rows


def _machines(target: Target) -> str:
    where = (
        f"cluster {target.compute}"
        if target.compute
        else " or ".join(target.instance_types) or "machines not named yet"
    )
    if target.compute and target.vm_size:
        where += f" ({target.vm_size})"
    if target.service == "finetuning-job":
        return f"{where}, {target.tier}"
    gpus = f"{views.plural(target.nodes, 'node')}, {views.plural(target.gpus_per_node, 'GPU')} each"
    return f"{gpus}, on {where}, {target.tier}"


def _job(plan: Plan, target: Target) -> str:
    if target.component is not None:
        return f"a pipeline job around {target.component}"
    if target.service == "pipeline":
        return f"a pipeline job: {', '.join(step.name for step in plan.steps)}"
    return "a fine-tuning job"


def _uploads(target: Target) -> RenderableType:
    rows = [
        (upload.kind, upload.name, views.size(upload.bytes), upload.files, _THERE[upload.there])
        for upload in target.uploads
    ]
    total = sum(upload.bytes for upload in target.uploads if not upload.there)
    table = views.table(("upload", "name in Azure", "size", "files", ""), rows, right=("size", "files"))
    return Group(table, Text(f"At most {views.size(total)} are sent: what Azure has already stays there.", style="dim"))


def payload_summary(plan: Plan) -> dict[str, Any]:
    """The job's JSON in a line: what it is, how large, and its hash."""
    from azft import api
    from azft.files import canonical_json, sha256_bytes

    body = canonical_json(api.payload(plan))
    kind = "PipelineJob" if plan.target and "pipeline" in plan.target.service else "FineTuningJob"
    return {"kind": kind, "job": plan.run_name, "bytes": len(body), "sha256": sha256_bytes(body)}


def payload_view(plan: RenderableType, summary: dict[str, Any] | None) -> RenderableType:
    """A plan's view with the payload's summary beneath; None where an error stops it."""
    if summary is None:
        return plan
    text = f"Payload: a {summary['kind']} of {views.size(summary['bytes'])}, SHA-256 {summary['sha256'][:16]}"
    return Group(plan, Text(f"{text}. All of it: azft plan ... --payload", style="dim"))
