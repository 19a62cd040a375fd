"""The machine that a model is served on: chosen from what the registry recommends, and checked before it costs.

The need is the weights' size and some room for the conversations' keys and values; it is a rule of thumb, and only what
clearly can't fit is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azft.azureml.quota import find_size, read_quota
from azft.azureml.resources import Resources
from azft.catalog.rows import find
from azft.catalog.vm_sizes import VmSizeRow, closest_size, vm_sizes
from azft.catalog.vm_sizes import find_size as size_row
from azft.errors import FindingsError
from azft.findings import Finding, Severity, has_errors

GIB = 1 << 30
ROOM = 1.2
"""GPU memory over weights, below which few conversations fit at a time."""
_CPU_LIMIT = 4 * GIB
"""Weights up to which a machine without a GPU answers in bearable time."""


@dataclass(frozen=True)
class Need:
    """Bytes that the weights take in memory, and how that is known."""

    bytes: int | None
    words: str


def weights(plan: dict[str, Any], packaged: Path | None = None) -> Need:
    """How much memory a run's model takes: measured where its files are here, else reckoned from the catalog's row."""
    if packaged is not None:
        files = [file for file in packaged.glob("*.safetensors") if file.is_file()]
        if files:
            total = sum(file.stat().st_size for file in files)
            return Need(total, f"its weights have {total / GIB:.1f} GiB")
    row = find(str(plan["recipe"].get("model") or plan["model"]["description"]))
    if row is None or row.weights is None:
        return Need(None, "azft does not know how large it is")
    count = row.weights
    return Need(2 * count, f"its weights have about {2 * count / GIB:.{0 if count > 5 * GIB else 1}f} GiB in bf16")


def choose(given: str | None, recommended: Iterable[str], need: Need, *, needs_gpu: bool) -> str:
    """The VM size: the one that was asked for, else the first recommended one that fits. Raises `FindingsError`."""
    if given is not None:
        return given
    for name in recommended:
        row = size_row(name)
        if row is not None and not has_errors(fit(name, need, needs_gpu=needs_gpu)):
            return row.name
    judged = [(row, fit(row.name, need, needs_gpu=needs_gpu)) for row in sorted(vm_sizes().values(), key=_total)]
    # What would be warned of comes last: it would serve, but few conversations at a time, or in minutes.
    fitting = [
        row.name
        for row, findings in sorted(judged, key=lambda entry: bool(entry[1]))
        if (row.gpus or not needs_gpu) and not has_errors(findings)
    ]
    finding = Finding(
        "serve-no-instance-type",
        Severity.ERROR,
        f"Which machines shall serve it? The registry recommends none, and {need.words}.",
        f"Name one with --instance-type, e.g. {', '.join(fitting[:3]) or 'a size with a GPU'}.",
    )
    raise FindingsError("No instance type.", [finding], fix=finding.fix)


def fit(name: str, need: Need, *, needs_gpu: bool) -> list[Finding]:
    """Whether a model fits a VM size, as far as the catalog knows the size."""
    row = size_row(name)
    if row is None:
        close = closest_size(name)
        hint = f"Did you mean {close}?" if close else "Look at its GPU memory yourself."
        return [Finding("serve-size-unknown", Severity.WARNING, f"azft's table has no VM size {name}.", hint)]
    if row.retired is not None:
        other = f"Take {row.successor}." if row.successor else "Take another one."
        return [Finding("serve-size-retired", Severity.ERROR, f"Azure retired {row.name} on {row.retired}.", other)]
    if not row.gpus:
        return _without_gpu(row, need, needs_gpu=needs_gpu)
    if need.bytes is None or row.gpu_memory is None:
        return []
    total = _total(row) * GIB
    has = f"{row.name} has {row.gpus} x {row.gpu_memory} GiB"
    larger = "Take a larger one with --instance-type."
    if need.bytes > total:
        return [Finding("serve-too-small", Severity.ERROR, f"The model does not fit: {need.words}, and {has}.", larger)]
    if need.bytes * ROOM > total:
        message = f"The model just about fits: {need.words}, and {has}; few conversations at a time will."
        return [Finding("serve-tight", Severity.WARNING, message, larger)]
    return []


def check_quota(resources: Resources, name: str, count: int) -> list[Finding]:
    """Whether the region has the VM size, and the subscription cores of its family left."""
    location = str(resources.workspace().get("location") or "")
    size = find_size(resources, location, name)
    if size is None:
        message = f"The region {location} has no VM size {name}."
        return [Finding("serve-size-not-here", Severity.ERROR, message, "Take another with --instance-type.")]
    quota = read_quota(resources, location, size, count)
    if quota.short:
        fix = "Ask for more (Azure portal, Quotas), take another size with --instance-type, or end something: azft down"
        return [Finding("serve-quota", Severity.ERROR, f"Not enough quota in {location}: {quota.words}.", fix)]
    return [Finding("serve-quota", Severity.INFO, f"Quota in {location}: {quota.words}.")]


def _without_gpu(row: VmSizeRow, need: Need, *, needs_gpu: bool) -> list[Finding]:
    if needs_gpu:
        message = f"vLLM needs a GPU, and {row.name} has none."
        return [Finding("serve-no-gpu", Severity.ERROR, message, "Take a size with a GPU with --instance-type.")]
    if need.bytes is not None and need.bytes > _CPU_LIMIT:
        message = f"{row.name} has no GPU, and {need.words}: answers will take minutes."
        return [Finding("serve-no-gpu", Severity.WARNING, message, "Take a size with a GPU with --instance-type.")]
    return []


def _total(row: VmSizeRow) -> int:
    return row.gpus * (row.gpu_memory or 0)
