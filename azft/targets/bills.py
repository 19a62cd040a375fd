"""What of a plan will cost money, in words; a price only where a dated row, or the user's own, knows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from azft.catalog.prices import billing, hourly_words
from azft.recipe import Recipe

if TYPE_CHECKING:
    from azft.plan import Target


def bills(recipe: Recipe, target: Target) -> Iterator[str]:
    """One line for each thing that is billed."""
    if target.service == "serverless-finetuning":
        passes = f"{recipe.training.epochs:g} epoch{'' if recipe.training.epochs == 1 else 's'}"
        yield f"training: by the token, over {passes} of the training data (its price: see the model's page)"
        if target.marketplace:
            yield f"the model's marketplace subscription: {billing('marketplace').words}"
        yield f"hosting, once it is deployed: {billing('serverless').words} ({hourly_words('serverless')})"
        return
    nodes = target.nodes
    machines = f"{nodes} node{'s' if nodes > 1 else ''}"
    tier = "low-priority" if target.tier == "low-priority" else "dedicated"
    size = target.instance_types[0] if target.instance_types else target.vm_size
    if target.service == "finetuning-job" and len(target.instance_types) > 1:
        yield f"training: {' or '.join(target.instance_types)}, {tier}: {billing('compute').words}"
    elif size is not None:
        yield f"training: {machines} of {size}, {tier}: {billing('compute').words} ({hourly_words(size, nodes)})"
    else:
        where = f"of cluster {target.compute}" if target.compute else "that the recipe doesn't name yet"
        yield f"training: {machines} {where}, {tier}: {billing('compute').words}"
    if target.compute is not None and target.idle_seconds is not None:
        minutes = target.idle_seconds / 60
        yield f"the cluster's nodes once idle, as --create-compute sets it: {minutes:g} minutes more, then nothing"
    yield "storage of what is uploaded and comes out: by the month, until it is deleted"
