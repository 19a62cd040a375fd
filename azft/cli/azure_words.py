"""What happens on the way to Azure, in a line for a person; events of runs on this machine have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from azft.words import duration, size

Event = Mapping[str, Any]


def _waiting(event: Event) -> str:
    status = f" ({event['status']})" if event["status"] else ""
    why = f"Azure asks to wait{status}" if event["asked"] else f"no clear answer from Azure{status}"
    return f"{event['what']}: {why}; waiting {'up to ' if event['at_most'] else ''}{duration(event['seconds'])}"


_WORDS: dict[str, Callable[[Event], str]] = {
    "workspace": lambda e: (
        f"to the workspace {e['name']} (resource group {e['resource_group']}, subscription {e['subscription']}), "
        f"found by {e['found_by']}"
    ),
    "uploaded": lambda e: f"uploaded {e['kind']} {e['name']} ({size(int(e['bytes']))})",
    "registering": lambda _: "registering the job's steps",
    "submitting": lambda e: f"submitting {e['job']}",
    "submitted": lambda e: f"in Azure as {e['job']}" + (f": {e['studio_url']}" if e.get("studio_url") else ""),
    "model-unchecked": lambda e: f"{e['message']} Whether the registry has the model, the job will find out.",
    "compute": lambda e: f"making the cluster {e['name']}" + (f" of {e['vm_size']}" if e.get("vm_size") else ""),
    "marketplace": lambda e: f"subscribing to {e['model']} in the marketplace, which accepts the offer's terms",
    "waiting": _waiting,
    "unreachable": lambda e: f"{e['message']} The run goes on; still looking.",
    "reachable": lambda _: "Azure answers again.",
}


def words(event: Event) -> str | None:
    """The line for an event; None for one that has none."""
    say = _WORDS.get(str(event.get("event")))
    return say(event) if say else None
