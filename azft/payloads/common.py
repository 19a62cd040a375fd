"""What every payload shares: the labels by which a job is found again, and the SDK without its noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from azft.errors import MissingDependencyError
from azft.pipeline import quiet_sdk
from azft.plan import Plan
from azft.planned_uploads import data_name


def data_references(plan: Plan, references: Mapping[str, str]) -> dict[str, str]:
    """What the job calls each data file, by role."""
    assert plan.target is not None
    uploads = {upload.name: upload for upload in plan.target.uploads if upload.kind == "data"}
    found = {entry.role: uploads[data_name(entry)] for entry in plan.inputs}
    return {role: references.get(upload.name, upload.reference) for role, upload in found.items()}


def model_reference(plan: Plan, references: Mapping[str, str]) -> str:
    """What the job calls the model: the registry's id, or the asset that a local folder becomes."""
    assert plan.target is not None
    upload = plan.target.upload("model")
    return plan.target.model_id if upload is None else references.get(upload.name, upload.reference)


@contextmanager
def need_sdk() -> Iterator[None]:
    """The SDK's imports and objects, without the lines about experimental classes that it logs."""
    with quiet_sdk():
        try:
            import azure.ai.ml  # noqa: F401
        except ImportError:
            raise MissingDependencyError("azure-ai-ml", extra="azure", purpose="Building the job") from None
        yield
