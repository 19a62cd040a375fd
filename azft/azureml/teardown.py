"""`azft down` across workspaces: the one that is meant here, and every other one that a record of an endpoint names.

What exists is read from the workspaces (`inventory`), never from the records alone; the records only say where else to
look, so that nothing keeps billing in a workspace that was used last week.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.azureml.connection import Access
from azft.azureml.ending import Outcome, end
from azft.azureml.endpoint_records import EndpointRecord, recorded
from azft.azureml.inventory import Item, read_inventory
from azft.azureml.remote_runs import workspace_of
from azft.azureml.workspace import Workspace
from azft.errors import AzftError, NotFoundError, UsageError
from azft.runs import Run, RunStore

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

SHARED = frozenset({"marketplace"})
"""What is ended only with everything: it belongs to no run, and bills nothing by itself."""


@dataclass(frozen=True)
class Whole:
    """All that azft started, wherever it was found, and where it could not be looked for."""

    workspaces: tuple[str, ...]
    items: tuple[Item, ...]
    runs: frozenset[str]
    """Runs that the workspaces know, ended ones too."""
    unknown: tuple[tuple[str, str], ...] = ()
    """(workspace, why it could not be looked into)."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "workspaces": list(self.workspaces),
            "items": [item.to_dict() for item in self.items],
            "unknown": [{"workspace": name, "why": why} for name, why in self.unknown],
        }


def connect_for(run: Run, access: Access) -> Connection:
    """A connection to the workspace of a run; of one that ran here, to the workspace that is meant now.

    Raises `UsageError` when the flags name another workspace than a remote run's.
    """
    if not run.remote:
        return access.connect()
    place = workspace_of(run)
    for flag, wanted, actual in (
        ("--subscription", access.subscription, place.subscription),
        ("--resource-group", access.resource_group, place.resource_group),
        ("--workspace", access.workspace, place.name),
    ):
        if wanted is not None and wanted.casefold() != actual.casefold():
            raise UsageError(f"Run {run.name} is in {actual}, not in {wanted}.", fix=f"Leave out {flag}.")
    return access.connect(place)


def look(access: Access, root: Path | None = None) -> Whole:
    """Everything that azft started and that still exists.

    Raises `AzftError` when the workspace that is meant can't be asked. One that only a record or a run names is noted
    as unknown instead.
    """
    named = any((access.subscription, access.resource_group, access.workspace))
    others = [] if named else _elsewhere(root)
    try:
        first = [access.find()]
    except UsageError:
        if not others:
            raise
        first = []
    items: list[Item] = []
    runs: set[str] = set()
    unknown: list[tuple[str, str]] = []
    names = []
    places = _distinct([*first, *others])
    for place in places:
        try:
            found = read_inventory(access.connect(place))
        except AzftError as error:
            if place in first:
                raise
            unknown.append((place.name, error.message))
            continue
        names.append(place.name)
        items += found.items
        runs |= found.runs
    return Whole(tuple(names), tuple(items), frozenset(runs), tuple(unknown))


def select(whole: Whole, name: str | None, root: Path | None = None) -> list[Item]:
    """The items that a name means (a run, the start of its name, or a thing's own name); all of them without a name.

    Nothing left of a run that is known is no error. Raises `NotFoundError` for a name that nobody knows.
    """
    if name is None:
        return list(whole.items)
    runs = {item.run for item in whole.items if item.run.startswith(name)}
    if len(runs) > 1 and name not in runs and not any(item.name == name for item in whole.items):
        raise NotFoundError(f"Several runs start with `{name}`: {', '.join(sorted(runs))}.", fix="Give the whole name.")
    exact = {name} if name in runs else runs
    chosen = [
        item
        for item in whole.items
        if item.name == name or (item.run in exact and bool(item.run) and item.kind not in SHARED)
    ]
    if not chosen and not _is_known(whole, name, root):
        there = sorted({item.run or item.name for item in whole.items})
        raise NotFoundError(
            f"azft knows no run and no endpoint `{name}` in {' and '.join(whole.workspaces) or 'any workspace'}.",
            fix=f"There is: {', '.join(there)}." if there else "Nothing that azft started exists there.",
        )
    return chosen


def narrow(whole: Whole, name: str | None, root: Path | None = None) -> Whole:
    """The same, with only the items that a name means."""
    return replace(whole, items=tuple(select(whole, name, root)))


def end_all(
    access: Access,
    items: Iterable[Item],
    *,
    root: Path | None = None,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> list[Outcome]:
    """End items, each in its workspace; what became of each, in their order."""
    chosen = list(items)
    outcomes: list[Outcome] = []
    for place in _distinct(item.place for item in chosen):
        here = [item for item in chosen if item.place.same_as(place)]
        outcomes += end(access.connect(place), here, root=root, on_event=on_event)
    return outcomes


def _elsewhere(root: Path | None) -> list[Workspace]:
    """The workspaces that endpoints' records and this folder's runs name."""
    return [*(record.place for record in recorded(root)), *_run_places(root)]


def _run_places(root: Path | None) -> list[Workspace]:
    places = []
    for run in RunStore(root).list():
        if run.remote:
            try:
                places.append(workspace_of(run))
            except (AzftError, KeyError):  # a damaged record: the workspace's tags still say what is there
                continue
    return places


def _distinct(places: Iterable[Workspace]) -> list[Workspace]:
    found: list[Workspace] = []
    for place in places:
        if not any(place.same_as(other) for other in found):
            found.append(place)
    return found


def _is_known(whole: Whole, name: str, root: Path | None) -> bool:
    records: list[EndpointRecord] = recorded(root)
    local = {run.name for run in RunStore(root).list()}
    runs = whole.runs | local | {record.run for record in records}
    return any(run.startswith(name) for run in runs) or name in {record.name for record in records}
