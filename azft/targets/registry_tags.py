"""What the registry itself says about a model, in its tags, against a plan. It is newer than any table of azft's.

Tag values are Python literals in text. `model_specific_defaults` are what Microsoft's notebooks let win over the user
without a word; here they are shown, and the plan's own values stay.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from azft.findings import Finding, Severity

ALLOW_LIST = "finetune_compute_allow_list"
DEFAULTS = "model_specific_defaults"
REGIONS = "maas-finetuning-deploy-regions"
RECOMMENDED = "finetune-recommended-sku"


def tag_findings(
    tags: Mapping[str, str],
    properties: Mapping[str, str],
    *,
    told: Mapping[str, str | int | float],
    sizes: tuple[str, ...],
    region: str | None,
    serverless: bool,
) -> Iterator[Finding]:
    """Findings of a registry model's tags and properties.

    Args:
        tags: The model's tags.
        properties: The model's properties.
        told: What the plan tells the service: hyperparameters or parameters.
        sizes: VM sizes that the plan runs on.
        region: Where the workspace is.
        serverless: Whether Azure's own machines do it.
    """
    allowed = _literal(tags.get(ALLOW_LIST))
    if not serverless and isinstance(allowed, list | tuple | set) and allowed:
        known = {str(size).casefold() for size in allowed}
        for size in sizes:
            if size.casefold() not in known:
                yield Finding(
                    "azure-size-not-allowed", Severity.ERROR,
                    f"The registry allows this model's fine-tuning on {', '.join(map(str, allowed))}, not on {size}.",
                    "Take one of them: modes.maap.instance_types, or a cluster of that size.",
                )  # fmt: skip
    defaults = _literal(tags.get(DEFAULTS))
    if isinstance(defaults, dict):
        for name, value in defaults.items():
            yield from _default(str(name), value, told)
    regions = _literal(tags.get(REGIONS))
    if serverless and region is not None and isinstance(regions, list | tuple | set) and regions:
        plain = {str(one).replace(" ", "").casefold() for one in regions}
        if region.replace(" ", "").casefold() not in plain:
            yield Finding(
                "azure-region-without-model", Severity.ERROR,
                f"The registry allows this model's deployment in {', '.join(sorted(plain))}, not {region}.",
                "Take a workspace in one of them.",
            )  # fmt: skip
    if not serverless and (recommended := properties.get(RECOMMENDED)):
        yield Finding(
            "azure-size-recommended",
            Severity.INFO,
            f"The registry recommends {recommended} for this model's fine-tuning.",
        )


def _default(name: str, value: Any, told: Mapping[str, str | int | float]) -> Iterator[Finding]:
    if name not in told:
        message = f"The registry's default for this model is {name}: {value}; the plan leaves {name} to the pipeline."
        yield Finding(
            "azure-model-default", Severity.WARNING, message, f"To take it: modes.maap.parameters: {{{name}: {value}}}"
        )
    elif str(told[name]).casefold() != str(value).casefold() and not _equal(told[name], value):
        message = (
            f"The registry's default for this model is {name}: {value}; the plan says {told[name]}, and that wins."
        )
        yield Finding("azure-model-default", Severity.INFO, message)


def _equal(one: Any, other: Any) -> bool:
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return False


def _literal(text: str | None) -> Any:
    """A tag's value; the plain text where it is no literal (a comma-separated list becomes a list)."""
    if text is None:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return parts if len(parts) > 1 else parts or None
