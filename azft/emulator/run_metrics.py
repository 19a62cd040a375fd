"""The numbers that runs log: a document a point, so that writing one costs the same however many there are."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from azft.emulator.state import Document

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_KIND = "metric"


def add(emu: Emulator, run_id: str, points: Iterable[tuple[str, float, int, int]]) -> None:
    """Write points: (name, value, milliseconds since 1970, step)."""
    with emu.state.transaction():
        for name, value, time, step in points:
            document = {"key": name, "value": value, "timestamp": time, "step": step}
            emu.state.put(_KIND, f"{run_id}/{name}/{uuid.uuid4().hex}", document)


def history(emu: Emulator, run_id: str, name: str) -> list[Document]:
    """All points of a metric, in the order in which they came."""
    return [document for _, document in emu.state.list(_KIND, f"{run_id}/{name}/")]


def latest(emu: Emulator, run_id: str) -> list[Document]:
    """The newest point of each metric: that of the highest step, then of the latest time."""
    newest: dict[str, Document] = {}
    for _, document in emu.state.list(_KIND, f"{run_id}/"):
        before = newest.get(document["key"])
        if before is None or _order(document) >= _order(before):
            newest[document["key"]] = document
    return list(newest.values())


def _order(point: Document) -> tuple[Any, Any]:
    return point["step"], point["timestamp"]
