"""What every payload shares: how a job calls its data and its model."""

from __future__ import annotations

from collections.abc import Mapping

from azft.plan import Plan
from azft.planned_uploads import data_name


def data_references(plan: Plan, references: Mapping[str, str]) -> dict[str, str]:
    """What the job calls each data file, by role."""
    assert plan.target is not None
    uploads = {upload.name: upload for upload in plan.target.uploads if upload.kind == "data"}
    found = {entry.role: uploads[data_name(entry)] for entry in plan.inputs}
    return {role: references.get(upload.name, upload.reference) for role, upload in found.items()}


def model_reference(plan: Plan, references: Mapping[str, str]) -> str:
    """What the job calls the model: the asset that a local folder becomes, or the registry's id.

    `references` may give that id a version.
    """
    assert plan.target is not None
    upload = plan.target.upload("model")
    if upload is None:
        return references.get(plan.target.model_id, plan.target.model_id)
    return references.get(upload.name, upload.reference)
