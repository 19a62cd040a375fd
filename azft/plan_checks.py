"""Whether a plan may be carried out: nothing it was made from has changed, and no finding stands in the way."""

from __future__ import annotations

import azft
from azft.catalog.folder import cached_sha256, folder_identity
from azft.errors import FindingsError, StalePlanError
from azft.files import sha256_file, sha256_tree
from azft.findings import Severity
from azft.plan import Plan, catalog_sha256, planned_step
from azft.staging import code_hash


def changes_since(plan: Plan) -> list[str]:
    """What is no longer as it was when the plan was made, in words; empty when the plan can be carried out."""
    changes = []
    if plan.hash != plan.computed_hash():
        changes.append("the plan itself was edited")
    for entry in plan.inputs:
        if not entry.path.is_file():
            changes.append(f"{entry.role} data {entry.path} is gone")
        elif cached_sha256(entry.path) != entry.sha256:
            changes.append(f"{entry.role} data {entry.path} has other contents")
    if plan.model.path is not None:
        if not plan.model.path.is_dir():
            changes.append(f"the model folder {plan.model.path} is gone")
        elif folder_identity(plan.model.path) != plan.model.identity:
            changes.append(f"the model in {plan.model.path} has other contents")
    for upload in plan.target.uploads if plan.target is not None else ():
        if upload.kind == "model" and plan.model.path is None and upload.path is not None:  # a job file's own folder
            if not upload.path.is_dir():
                changes.append(f"the model folder {upload.path} is gone")
            elif sha256_tree(upload.path) != upload.sha256:
                changes.append(f"the model in {upload.path} has other contents")
    if plan.target is not None and plan.target.catalog_sha256 != catalog_sha256(plan):
        changes.append("azft's catalog says something else about the model, the machines or the pipeline")
    if not plan.steps:  # the service's own code runs
        return changes
    steps_now = tuple(planned_step(step.name, None, step.parameters) for step in plan.steps)
    if plan.code_hash != code_hash() or plan.steps != steps_now:
        versions = "" if plan.azft_version == azft.__version__ else f" ({plan.azft_version} to {azft.__version__})"
        changes.append(f"azft's code changed{versions}")
    return changes


def recipe_changed(plan: Plan) -> bool:
    """Whether the recipe file is no longer the one that the plan was made from (or is gone)."""
    return not plan.recipe_path.is_file() or sha256_file(plan.recipe_path) != plan.recipe_sha256


def require_fresh(plan: Plan, *, recipe: bool = True) -> None:
    """Raise `StalePlanError` naming what changed; with `recipe` False, the recipe file aside (a run keeps its own)."""
    changes = changes_since(plan)
    if recipe and recipe_changed(plan):
        changes.insert(0, f"the recipe {plan.recipe_path} changed")
    if changes:
        raise StalePlanError(
            f"The plan {plan.run_name} is stale: {'; '.join(changes)}.",
            fix=f"Make a new one: azft plan {plan.recipe_path} --mode {plan.mode}",
        )


def require_no_errors(plan: Plan) -> None:
    """Raise `FindingsError` when the plan has findings that stop a submission."""
    errors = [finding for finding in plan.findings if finding.severity is Severity.ERROR]
    if errors:
        count = f"{len(errors)} error{'s' if len(errors) > 1 else ''}"
        raise FindingsError(f"The plan {plan.run_name} has {count}; nothing was started.", plan.findings)
