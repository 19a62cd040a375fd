"""The machines that a step runs on: their size, where the job or its cluster tells it, and the cores that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from azft.emulator import compute
from azft.emulator.settings import VmSize
from azft.emulator.wire_node import StepFacts

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_USUAL_FAMILY = "standardNCADSA100v4Family"
"""Where nothing tells the size: serverless compute chooses it."""
_HELD = "run/"


def family(emu: Emulator, facts: StepFacts) -> str:
    """The VM family of a step."""
    size, _ = _size(emu, facts)
    return _USUAL_FAMILY if size is None else size.family


@contextmanager
def machines(emu: Emulator, facts: StepFacts, run_id: str) -> Iterator[None]:
    """Hold the cores of a step's machines, for who asks what is in use."""
    size, low_priority = _size(emu, facts)
    key = f"{_HELD}{run_id}"
    if size is not None:
        held = {"family": size.family, "cores": size.vcpus * facts.nodes, "low_priority": low_priority}
        emu.state.put(compute.CORES_IN_USE, key, held)
    try:
        yield
    finally:
        emu.state.delete(compute.CORES_IN_USE, key)


def forget(emu: Emulator) -> None:
    """Let go of what an emulator held that was killed."""
    for key, _ in emu.state.list(compute.CORES_IN_USE, _HELD):
        emu.state.delete(compute.CORES_IN_USE, key)


def _size(emu: Emulator, facts: StepFacts) -> tuple[VmSize | None, bool]:
    """The VM size, if it is known, and whether it is low priority."""
    cluster = compute.find(emu, facts.compute.rsplit("/", 1)[-1]) or {}
    told = cluster.get("properties", {}).get("properties", {})
    size = compute.find_size(emu, facts.instance_type or str(told.get("vmSize", "")))
    return size, str(told.get("vmPriority", "")).lower() == "lowpriority"
