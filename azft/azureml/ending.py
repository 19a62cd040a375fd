"""Ending what azft started: every thing is asked to end, then looked at until it has. One that won't stops no other.

Only items of an inventory come here, and each is looked at once more right before it is ended: what is no longer azft's
(somebody made another of the same name) is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.azureml.endpoint_records import forget
from azft.azureml.inventory import ENDED, Item
from azft.azureml.marketplace import PREFIX as SUBSCRIPTION_PREFIX
from azft.azureml.resources import Resource, Resources
from azft.azureml.waiting import key, wait_until_ended
from azft.errors import AzftError, ExitCode
from azft.tags import RUN_TAG, TAG

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

OnEvent = Callable[[dict[str, Any]], None]

LIMIT = 900.0
"""Seconds that an ending may take: deleting an endpoint takes minutes."""
_FIRST = ("job", "serverless", "online")
"""Ended before the computes that jobs run on, and the subscriptions that endpoints stand on."""
_NEWEST_JOBS = 1000
"""Jobs, newest first, among which one that still runs on a cluster is looked for: a workspace may have very many."""


@dataclass(frozen=True)
class Outcome:
    """What became of one item. `why` says why it could not be ended, or was left; `exit_code` is that of the reason."""

    item: Item
    why: str = ""
    exit_code: ExitCode = ExitCode.DONE

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self.exit_code is ExitCode.DONE

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self.item.to_dict(), "ended": self.ended, "why": self.why}


def exit_code(outcomes: Iterable[Outcome]) -> ExitCode:
    """Of all of them together: that of a refused sign-in, with which no other could end either, before any other's."""
    codes = {outcome.exit_code for outcome in outcomes} - {ExitCode.DONE}
    if not codes:
        return ExitCode.DONE
    return ExitCode.SIGN_IN if ExitCode.SIGN_IN in codes else ExitCode.FAILURE


def end(
    connection: Connection,
    items: Sequence[Item],
    *,
    root: Path | None = None,
    limit: float = LIMIT,
    on_event: OnEvent | None = None,
) -> list[Outcome]:
    """End items of one workspace, and say of each whether it is gone. Never raises for a single one.

    Tells `{"event": "ending" | "ended" | "not-ended", "kind", "name"}`. `root` is the `.azft` folder whose records of
    endpoints are cleared.
    """
    tell = on_event or (lambda _: None)
    resources = Resources(connection)
    outcomes: dict[tuple[str, ...], Outcome] = {}
    for phase in (True, False):
        now = [item for item in items if (item.kind in _FIRST) is phase]
        outcomes |= _end_together(resources, now, limit, tell)
    for outcome in outcomes.values():
        if outcome.ended and outcome.item.kind in {"serverless", "online"}:
            forget(outcome.item.name, root)
    return [outcomes[key(item.resource)] for item in items]


def _end_together(
    resources: Resources, items: Sequence[Item], limit: float, tell: OnEvent
) -> dict[tuple[str, ...], Outcome]:
    outcomes: dict[tuple[str, ...], Outcome] = {}
    asked: list[Item] = []
    for item in items:
        try:
            left = _ask(resources, item)
        except AzftError as error:
            why = f"{error.message} {error.fix}".strip()
            outcomes[key(item.resource)] = Outcome(item, why, error.exit_code)
        else:
            if left is None:
                asked.append(item)
                tell({"event": "ending", "kind": item.kind, "name": item.name})
            else:
                outcomes[key(item.resource)] = Outcome(item, left, ExitCode.FAILURE if left else ExitCode.DONE)
    waiting = wait_until_ended(resources, [(item.resource, _test(item)) for item in asked], limit=limit)
    for item in asked:
        still = waiting.get(key(item.resource))
        outcomes[key(item.resource)] = Outcome(item) if still is None else Outcome(item, still.why, still.exit_code)
    for outcome in outcomes.values():
        kind = "ended" if outcome.ended else "not-ended"
        tell({"event": kind, "kind": outcome.item.kind, "name": outcome.item.name, "why": outcome.why})
    return outcomes


def _ask(resources: Resources, item: Item) -> str | None:
    """Ask for the end. None when that was done, "" when it had ended already, else why it was left alone."""
    found = resources.get(item.kind, item.name)
    if _test(item)(found):
        return ""
    assert found is not None
    if not is_azfts(found) or found.tags.get(RUN_TAG) != item.resource.tags.get(RUN_TAG):
        return "Another one of this name is there now, and azft did not make it."
    if item.kind == "job":
        resources.act("job", item.name, action="cancel")
    elif item.kind == "compute":
        if jobs := _jobs_on(resources, found):
            return f"Jobs run on it: {', '.join(jobs)}. End them first."
        resources.delete("compute", item.name, underlyingResourceAction="Delete")
    else:
        resources.delete(item.kind, item.name)
    return None


def is_azfts(found: Resource) -> bool:
    """Whether azft made it, by its tags; a subscription, which has none, by its name."""
    return TAG in found.tags or (found.kind == "marketplace" and found.name.startswith(SUBSCRIPTION_PREFIX))


def _jobs_on(resources: Resources, compute: Resource) -> list[str]:
    """Names of the jobs, anybody's, that still run on a cluster."""
    found = []
    for job in resources.all("job", limit=_NEWEST_JOBS):
        if job.state.lower() in ENDED:
            continue
        settings = job.properties.get("settings") or {}
        on = {str(job.properties.get("computeId") or ""), str(settings.get("default_compute") or "")}
        if any(place.rpartition("/")[2].casefold() == compute.name.casefold() for place in on if place):
            found.append(job.name)
    return found


def _test(item: Item) -> Callable[[Resource | None], bool]:
    if item.kind == "job":
        return lambda found: found is None or found.state.lower() in ENDED
    return lambda found: found is None
