"""The catalog's rows that a plan for Azure was made with, as one hash: when a row changes, the plan is stale."""

from __future__ import annotations

from collections.abc import Iterable

from azft.catalog.rows import find
from azft.catalog.system_pipelines import system_pipelines
from azft.catalog.vm_sizes import find_size
from azft.files import canonical_json, sha256_bytes


def facts_sha256(model: str, sizes: Iterable[str], system_task: str | None) -> str:
    """Hex SHA-256 over what the catalog says about a model, VM sizes and (for a system pipeline) a task's pipeline."""
    row = find(model)
    pipeline = system_pipelines().get(system_task) if system_task else None
    rows = {
        "model": row.model_dump(mode="json") if row else None,
        "sizes": [found.model_dump(mode="json") if (found := find_size(name)) else None for name in sizes],
        "pipeline": pipeline.model_dump(mode="json") if pipeline else None,
    }
    return sha256_bytes(canonical_json(rows))
