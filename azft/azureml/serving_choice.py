"""How a run's model is to be served, by which name and on which machines: decided and checked before anything is made.

Nothing is registered, uploaded or started here, so that a refusal costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from azft.azureml.errors import LimitError
from azft.azureml.registration import job_of
from azft.azureml.registry_facts import read_facts
from azft.azureml.remote_runs import tuned_model
from azft.azureml.resources import FAILED, Resource, Resources
from azft.azureml.serving_bodies import DEPLOYMENT
from azft.azureml.serving_machine import check_quota, choose, fit, weights
from azft.azureml.vllm_rows import CLASSIFIERS
from azft.catalog.rows import find
from azft.data.column_names import guess_columns
from azft.data.model_folder import ModelKind, find_model_folder, model_kind
from azft.data.readers import first_row
from azft.errors import FindingsError, UsageError
from azft.files import sha256_bytes
from azft.findings import Finding, Severity, has_errors
from azft.runs import Run
from azft.tags import KIND_TAG
from azft.tasks import TASKS, Task
from azft.techniques import TECHNIQUES
from azft.training.stand_in_architectures import ARCHITECTURES

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

Kind = Literal["serverless", "mlflow", "vllm"]
OnEvent = Callable[[dict[str, Any]], None]

_KINDS: dict[str, tuple[Kind, ...]] = {
    "local": ("vllm",),
    "pipeline": ("vllm",),
    "system-pipeline": ("mlflow",),
    "finetuning-job": ("mlflow",),
    "serverless-finetuning": ("serverless",),
}
"""Where a model comes from -> how it can be served, the usual way first."""
_SERVED_ELSEWHERE = (
    "Train it by the registry's pipeline (modes.maap.pipeline: system), whose MLflow model Azure serves without code"
)
_LONGEST_NAME = 32
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]")


@dataclass(frozen=True)
class Machines:
    """The instances of an online endpoint."""

    instance_type: str
    instances: int


def choose_kind(run: Run, asked: Kind | None) -> Kind:
    """How the run's model is served: as its service made it. Raises `UsageError` for what can't be.

    An adapter alone can't: vLLM would find out after a quarter of an hour.
    """
    target = run.plan.get("target")
    service = "local" if target is None else target["service"]
    allowed = _KINDS[service]
    if asked is not None and asked not in allowed:
        raise UsageError(
            f"The model of {run.name} can't be served as {asked}: it comes from {service.replace('-', ' ')}.",
            fix=f"Leave out --kind, or give {' or '.join(allowed)}.",
        )
    recipe = run.plan["recipe"]  # empty for a run that was started elsewhere
    task = TASKS.get(recipe.get("task", ""))
    if allowed == ("vllm",) and task is not None and (why := why_not_vllm(run, task)):
        raise UsageError(
            f"The model of {run.name} can't be served by vLLM, which {why}.",
            fix=f"{_SERVED_ELSEWHERE}, or take the package: azft outputs {run.name}",
        )
    technique, output = recipe.get("technique") or {}, recipe.get("output") or {}
    kind = TECHNIQUES[technique.get("name", "full")]
    merge = kind.merges if output.get("merge") is None else output["merge"]
    if allowed == ("vllm",) and kind.is_adapter and not merge:
        fix = "Set output.merge: true in the recipe and submit it again; only the package step runs anew."
        raise UsageError(
            f"The model of {run.name} is an adapter alone, and the endpoint serves whole models.",
            fix=fix if kind.merges else "Virtual tokens can't be merged: serve it with peft, or tune with lora.",
        )
    return asked or allowed[0]


def why_not_vllm(run: Run, task: Task) -> str:
    """What vLLM does that this model doesn't; "" where it can serve it.

    Of the models that read, those that classify texts with one label: what it gives of others has no names in it.
    """
    if task.rendering is None or task.rendering == "tag":
        return f"writes texts or classifies them: its task is {task.name}"
    kind, architecture, several = _model(run)
    if task.rendering == "class":
        if several:
            return "names one label of a text, and the model may tell several"
        family = re.sub(r"(For[A-Z].*|Model)$", "", architecture)
        if kind == "encoder" and family not in CLASSIFIERS:
            return f"classifies by decoders and by {', '.join(CLASSIFIERS)}: it is {architecture or 'another encoder'}"
        if kind in ("decoder", "encoder"):
            return ""
    if kind == "decoder":
        return ""
    marks = ", and marks answers instead of writing them" if kind == "encoder" else ""
    return f"serves decoders: it is an {kind}{marks}"


def _model(run: Run) -> tuple[ModelKind, str, bool]:
    """Kind and architecture of the run's model, and whether it may tell several labels.

    By its files where they are here, else by what the catalog says of its base, and the first row that it learned.
    """
    packaged = None if run.remote else run.outputs().get("packaged")
    if packaged is not None and packaged.is_dir():
        return model_kind(packaged), *_described(packaged)
    known = run.plan.get("model") or {}
    row = find(str((run.plan["recipe"] or {}).get("model") or known.get("description") or ""))
    architecture = row.architecture if row is not None else (known.get("spec") or {}).get("architecture")
    folder = known.get("path")
    if architecture is None and folder is not None:
        return model_kind(Path(folder)), _described(Path(folder))[0], _learned_several(run)
    shape = ARCHITECTURES.get(architecture or "")
    if shape is None or (shape.writes and not shape.reads_and_writes):
        return "decoder", architecture or "", _learned_several(run)
    return "encoder-decoder" if shape.reads_and_writes else "encoder", architecture or "", _learned_several(run)


def _learned_several(run: Run) -> bool:
    """Whether the first training row has a list of labels; False where the file isn't here any more."""
    recipe = run.plan["recipe"]
    train = next((Path(entry["path"]) for entry in run.plan.get("inputs") or () if entry["role"] == "train"), None)
    first = first_row(train) if train is not None and train.is_file() else None
    if first is None or TASKS[recipe["task"]].rendering != "class":
        return False
    columns = recipe["data"].get("columns") or {}
    columns = {**columns, **guess_columns(recipe["task"], columns, first.data)}
    return isinstance(first.data.get(columns.get("labels", "labels")), list)


def _described(folder: Path) -> tuple[str, bool]:
    """The architecture of a model's config.json, and whether it may tell several labels."""
    try:
        config = orjson.loads((find_model_folder(folder) / "config.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return "", False  # whoever serves the model says what is wrong with the file
    return str((config.get("architectures") or [""])[0]), config.get("problem_type") == "multi_label_classification"


def choose_name(connection: Connection, run: Run, asked: str | None) -> str:
    """The endpoint's name: the one asked for, else the run's and four characters that tell workspaces apart.

    Names of online endpoints are unique in a region, and two workspaces may well run the same plan. Azure takes 3 to 32
    letters, digits and hyphens, a letter first.
    """
    if asked is not None:
        if _NAME.fullmatch(asked) is None:
            fix = "3 to 32 letters, digits and hyphens, a letter first."
            raise UsageError(f"`{asked}` is no name for an endpoint.", fix=fix)
        return asked
    place = f"{connection.workspace.id.lower()}\n{run.name}"
    tail = f"{run.plan['hash'][:8]}-{sha256_bytes(place.encode())[:4]}"
    words = re.sub(r"[^a-z0-9]+", "-", str(run.plan["name"]).lower()).strip("-")
    if not words[:1].isalpha():
        words = f"m-{words}".strip("-")
    return f"{words[: _LONGEST_NAME - len(tail) - 1].strip('-')}-{tail}"


def choose_machines(
    connection: Connection,
    run: Run,
    name: str,
    kind: Kind,
    *,
    instance_type: str | None,
    instances: int,
    on_event: OnEvent,
) -> Machines:
    """The machines of an online endpoint: those it has already, else those asked for or recommended, checked.

    Raises `FindingsError` when the model can't fit, `LimitError` for quota, and `UsageError` when the endpoint is there
    on other machines, or when nobody says which.
    """
    resources = Resources(connection)
    there = resources.get("deployment", name, DEPLOYMENT)
    if there is not None and is_of(there, run, kind) and there.state.lower() not in FAILED:
        return _as_it_is(there, name, instance_type, instances)
    needs_gpu = kind == "vllm"
    need = weights(run.plan, None if run.remote else run.outputs().get("packaged"))
    recommended: tuple[str, ...] = ()
    if instance_type is None and run.remote:
        facts = read_facts(connection, base_model_of(resources, run)[0])
        recommended = facts.serve_sizes if facts is not None else ()
    size = choose(instance_type, recommended, need, needs_gpu=needs_gpu)
    findings = fit(size, need, needs_gpu=needs_gpu)
    if has_errors(findings):
        raise FindingsError(f"{size} can't serve the model of {run.name}.", findings)
    for finding in (*findings, *check_quota(resources, size, instances)):
        _allow(finding)
        on_event({"event": "finding", **finding.to_dict()})
    return Machines(size, instances)


def base_model_of(resources: Resources, run: Run) -> tuple[str, bool]:
    """The id of the model that was tuned, and whether it has to be bought in the marketplace.

    A run that was started elsewhere has no plan here, so its job says which model; the catalog then whose it is.
    """
    target = run.plan.get("target") or {}
    if "model_id" in target:
        return str(target["model_id"]), bool(target.get("marketplace"))
    job = resources.get("job", job_of(run))
    base = tuned_model(job) if job is not None else ""
    row = find(base)
    return base, row is not None and row.azure is not None and not row.azure.is_microsofts


def is_of(found: Resource, run: Run, kind: Kind) -> bool:
    """Whether an endpoint or deployment is azft's for this run, of this kind."""
    return found.is_of(run.name, run.plan["hash"]) and found.tags.get(KIND_TAG) == kind


def _as_it_is(there: Resource, name: str, instance_type: str | None, instances: int) -> Machines:
    """A deployment that is there; other machines than it has are another deployment."""
    has = str(there.properties.get("instanceType") or "")
    count = int(there.sku.get("capacity") or 1)
    other = instance_type is not None and instance_type.casefold() != has.casefold()
    if other or instances not in {1, count}:
        raise UsageError(
            f"The endpoint {name} is there already, on {count} x {has}.",
            fix=f"End it first (azft down {name}), or give the new one another name with --name.",
        )
    return Machines(has, count)


def _allow(finding: Finding) -> None:
    if finding.severity is Severity.ERROR:
        kind = LimitError if finding.code == "serve-quota" else UsageError
        raise kind(finding.message, fix=finding.fix)
