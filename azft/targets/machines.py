"""Machines of one's own: what the recipe asks for against what the dated table of VM sizes knows."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from dataclasses import dataclass

from azft.catalog.vm_sizes import VmSizeRow, closest_size, find_size
from azft.findings import Finding, Severity
from azft.recipe import Recipe
from azft.recipe_file import RecipeFile
from azft.targets.table import finding, is_set

_TODAYS = "Today's: Standard_NC24ads_A100_v4 (1 GPU), Standard_NC96ads_A100_v4 (4), Standard_ND96isr_H100_v5 (8)."
CLUSTER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,30}[A-Za-z0-9]")
"""What a compute can be called (Azure's naming rules for resources: 32 characters at most)."""
CLUSTER_NAME_WORDS = "2 to 32 letters, digits and hyphens, a letter first."


@dataclass(frozen=True)
class Machines:
    """What the plan takes."""

    size: VmSizeRow | None
    """The size that is looked up: the first instance type, or the cluster's; None when nobody knows it."""
    gpus_per_node: int


def choose_machines(recipe: Recipe) -> Machines:
    """GPUs of each node: the recipe's number, else the size's, else 1. Without a strategy to share the work, 1."""
    maap = recipe.modes.maap
    name = maap.instance_types[0] if maap.instance_types else maap.vm_size
    size = find_size(name) if name else None
    gpus = maap.gpus_per_node
    if gpus is None:
        shares = maap.pipeline != "azft" or recipe.distribution.strategy != "none"
        gpus = max(1, size.gpus) if size is not None and shares else 1
    return Machines(size, gpus)


def machine_findings(recipe_file: RecipeFile, machines: Machines) -> Iterator[Finding]:
    """Everything about the machines that can't work, or that the user should know."""
    yield from _where(recipe_file)
    maap = recipe_file.recipe.modes.maap
    named = [("modes.maap.instance_types", name) for name in maap.instance_types]
    named += [("modes.maap.vm_size", maap.vm_size)] if maap.vm_size else []
    for path, name in named:
        yield from _size(recipe_file, path, name)
    yield from _sharing(recipe_file, machines)
    yield from _preemption(recipe_file)


def _where(recipe_file: RecipeFile) -> Iterator[Finding]:
    maap = recipe_file.recipe.modes.maap
    if bool(maap.compute) == bool(maap.instance_types):
        both = "names a cluster and instance types; it can be one of them" if maap.compute else "says no machines"
        yield finding(
            recipe_file, "modes.maap.compute", "machines", Severity.ERROR, f"modes.maap {both}.",
            "Say `compute: <cluster>`, or `instance_types: [Standard_NC24ads_A100_v4]`.",
        )  # fmt: skip
    elif maap.compute and maap.vm_size is None:
        shares = maap.pipeline == "system" or recipe_file.recipe.distribution.strategy != "none"
        guessed = maap.gpus_per_node is None and maap.pipeline != "finetuning" and shares
        what = "so 1 GPU of each node is planned" if guessed else "so neither GPUs nor precision are checked"
        yield finding(
            recipe_file, "modes.maap.compute", "size-unknown-here", Severity.WARNING if guessed else Severity.INFO,
            f"Which machines the cluster `{maap.compute}` has is not known without asking Azure, {what}.",
            "Say `vm_size` beside it, or ask: azft plan --check-remote",
        )  # fmt: skip
    if maap.compute and CLUSTER_NAME.fullmatch(maap.compute) is None:
        yield finding(
            recipe_file, "modes.maap.compute", "compute-name", Severity.ERROR,
            f"`{maap.compute}` is no name for a cluster.", f"Its name alone: {CLUSTER_NAME_WORDS}",
        )  # fmt: skip
    if maap.max_nodes is not None and maap.max_nodes < maap.nodes:
        yield finding(
            recipe_file, "modes.maap.max_nodes", "max-nodes", Severity.ERROR,
            f"A cluster of at most {maap.max_nodes} can't give {maap.nodes} nodes.", "Raise max_nodes, or lower nodes.",
        )  # fmt: skip
    if not maap.compute:
        for key in ("vm_size", "max_nodes", "idle_seconds"):
            if is_set(recipe_file.recipe, f"modes.maap.{key}"):
                yield finding(
                    recipe_file, f"modes.maap.{key}", "not-offered", Severity.WARNING,
                    f"`modes.maap.{key}` has no effect without `compute`: it describes a cluster.", "Leave it out.",
                )  # fmt: skip
    if len(maap.instance_types) > 1 and maap.pipeline != "finetuning":
        yield finding(
            recipe_file, "modes.maap.instance_types", "first-size-only", Severity.WARNING,
            f"A pipeline runs on one size: {maap.instance_types[0]}. The others are not used.",
            "Only modes.maap.pipeline: finetuning lets Azure choose.",
        )  # fmt: skip


def _size(recipe_file: RecipeFile, path: str, name: str) -> Iterator[Finding]:
    recipe = recipe_file.recipe
    row = find_size(name)
    if row is None:
        near = closest_size(name)
        fix = f"Did you mean `{near}`?" if near else f"Check the name. {_TODAYS}"
        message = f"azft knows no VM size `{name}`: neither its GPUs nor its precision are checked."
        yield finding(recipe_file, path, "size-unknown", Severity.WARNING, message, fix)
        return
    if row.retired is not None and row.retired <= datetime.date.today():
        fix = f"Take {row.successor}." if row.successor else _TODAYS
        message = f"Azure retired {row.name} on {row.retired} ({row.source})."
        yield finding(recipe_file, path, "size-retired", Severity.ERROR, message, fix)
    if row.gpus == 0:
        own = recipe.modes.maap.pipeline == "azft"
        what = "training is slow there" if own else "this pipeline refuses to run without one"
        severity = Severity.WARNING if own else Severity.ERROR
        yield finding(recipe_file, path, "no-gpu", severity, f"{row.name} has no GPU: {what}.", _TODAYS)
    elif not row.bf16 and recipe.training.precision == "bf16":
        message = f"{row.name} ({row.gpu}) does not compute in bf16, which training.precision asks for."
        fix = "Say training.precision: auto or fp32, or take a size with A100, H100 or A10."
        yield finding(recipe_file, "training.precision", "no-bf16", Severity.ERROR, message, fix)
    asked = recipe.modes.maap.gpus_per_node
    if asked is not None and row.gpus and asked > row.gpus:
        message = f"{row.name} has {row.gpus} GPU{'s' if row.gpus > 1 else ''}, not {asked}."
        fix = f"Say gpus_per_node: {row.gpus}, or take a larger size."
        yield finding(recipe_file, "modes.maap.gpus_per_node", "too-many-gpus", Severity.ERROR, message, fix)


def _sharing(recipe_file: RecipeFile, machines: Machines) -> Iterator[Finding]:
    recipe = recipe_file.recipe
    maap = recipe.modes.maap
    if maap.pipeline != "azft":
        return
    ranks = maap.nodes * machines.gpus_per_node
    if ranks > 1 and recipe.distribution.strategy == "none":
        path = "modes.maap.nodes" if maap.nodes > 1 else "modes.maap.gpus_per_node"
        message = f"{ranks} GPUs are asked for, and distribution.strategy says that one does the work."
        yield finding(recipe_file, path, "no-strategy", Severity.ERROR, message, "Say distribution.strategy: ddp.")
    elif machines.size is not None and 1 <= machines.gpus_per_node < machines.size.gpus:
        message = f"{machines.size.name} has {machines.size.gpus} GPUs, and {machines.gpus_per_node} would work."
        fix = f"Say distribution.strategy: ddp and gpus_per_node: {machines.size.gpus}, or take a smaller size."
        yield finding(recipe_file, "modes.maap", "idle-gpus", Severity.WARNING, message, fix)
    step = ranks * recipe.training.micro_batch_size
    if ranks > 1 and recipe.training.global_batch_size < step:
        message = f"{ranks} ranks of {recipe.training.micro_batch_size} sequences each: some have nothing to do."
        fix = f"Say training.global_batch_size: {step}, or more."
        yield finding(recipe_file, "training.global_batch_size", "idle-ranks", Severity.WARNING, message, fix)


def _preemption(recipe_file: RecipeFile) -> Iterator[Finding]:
    recipe = recipe_file.recipe
    maap = recipe.modes.maap
    if maap.tier != "low-priority":
        return
    if maap.pipeline == "system" and not maap.compute:
        message = "Machines that Azure makes for the system pipeline are dedicated: `tier` has no effect there."
        fix = "Take a low-priority cluster (modes.maap.compute), or pipeline: azft."
        yield finding(recipe_file, "modes.maap.tier", "not-offered", Severity.WARNING, message, fix)
    elif maap.pipeline != "azft":
        message = (
            "Low-priority machines can be taken away at any time, and this kind of job then begins again from zero."
        )
        fix = "modes.maap.pipeline: azft goes on from its checkpoint."
        yield finding(recipe_file, "modes.maap.tier", "preemption", Severity.WARNING, message, fix)
    elif recipe.training.save_steps is None:
        message = "Low-priority machines can be taken away at any time, and checkpoints are written once an epoch only."
        fix = "Say training.save_steps, so that a machine that is taken away loses minutes."
        yield finding(recipe_file, "training.save_steps", "preemption", Severity.WARNING, message, fix)
    if maap.compute:
        message = f"Whether `{maap.compute}` has low-priority nodes is the cluster's; --create-compute makes it so."
        yield finding(recipe_file, "modes.maap.tier", "tier-of-cluster", Severity.INFO, message)
