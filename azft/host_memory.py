"""The host's memory: how much this machine has, how much is free, and how many models ranks can load in it at once.

Read from the system, a container's limit (cgroup v2) included; None where it doesn't say.
"""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def total() -> int | None:
    """Bytes that this machine, or the container that this process is in, has."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = _number(_CGROUP / "memory.max")
    return machine if limit is None else min(machine, limit)


def available() -> int | None:
    """Bytes that can be taken now without ending or swapping anything: what files have in memory counts as free."""
    try:
        entries = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        free = int(entries["MemAvailable"].split()[0]) << 10
    except (OSError, ValueError, KeyError, IndexError):
        return None
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is None or used is None:
        return free
    try:
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        files = int(stat["inactive_file"]) + int(stat["active_file"])
    except (OSError, ValueError, KeyError):
        files = 0
    return max(0, min(free, limit - used + files))


def give_back() -> None:
    """Return to the system what this process has freed; glibc keeps blocks of up to 32 MiB for itself."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def least(*, ranks: int, whole: int, kept: int) -> int:
    """Bytes that a node must have for its ranks to load one after the other; arguments as of `at_once`."""
    return ranks * kept + max(0, whole - kept)


def at_once(memory: int, *, ranks: int, whole: int, kept: int) -> int:
    """How many ranks of a node can have a whole model in its memory at the same time; 0: not even one.

    Args:
        memory: Bytes that they may take together.
        ranks: How many there are on the node.
        whole: Bytes that a rank takes while it loads the model.
        kept: Bytes of it that stay with each rank afterwards, those that have loaded and those that will.
    """
    if memory < least(ranks=ranks, whole=whole, kept=kept):
        return 0
    return ranks if whole <= kept else min(ranks, (memory - ranks * kept) // (whole - kept))


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no cgroup v2, or no limit ("max")
        return None
