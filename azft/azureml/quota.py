"""Quota: how many cores of a VM family may be used in a region, how many are in use, and how many are needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from azft.azureml.resources import Resources

LOW_PRIORITY = "lowpriority"
_FILLING = re.compile(r"[^a-z0-9]+|family|cluster|dedicated|vcpus?")


@dataclass(frozen=True)
class Size:
    """A VM size as the region offers it. Memory is GiB."""

    name: str
    family: str
    cores: int
    gpus: int
    memory: float


@dataclass(frozen=True)
class Quota:
    """Cores of a VM family: those needed, those in use, and the limit (None: the service names none)."""

    family: str
    needed: int
    used: int | None
    limit: int | None

    @property
    def free(self) -> int | None:
        """Cores that are left."""
        return None if self.limit is None or self.used is None else max(0, self.limit - self.used)

    @property
    def short(self) -> bool:
        """Whether what is needed is known not to fit."""
        return self.free is not None and self.needed > self.free

    @property
    def words(self) -> str:
        """`24 cores of StandardNCADSA100v4Family needed, 0 of 48 in use`."""
        needed = f"{self.needed} cores of {self.family} needed"
        if self.limit is None:
            return f"{needed}; the service names no limit for it"
        return f"{needed}, {self.used} of {self.limit} in use"


def find_size(resources: Resources, location: str, name: str) -> Size | None:
    """The VM size as the region offers it, in any case; None when the region has none of that name."""
    for row in resources.sizes(location):
        if str(row.get("name", "")).casefold() == name.casefold():
            return Size(
                name=str(row["name"]),
                family=str(row.get("family") or ""),
                cores=int(row.get("vCPUs") or 0),
                gpus=int(row.get("gpus") or 0),
                memory=float(row.get("memoryGB") or 0),
            )
    return None


def read_quota(resources: Resources, location: str, size: Size, count: int, *, low_priority: bool = False) -> Quota:
    """What `count` machines of a size need, beside what the region's usages say of the family."""
    family = LOW_PRIORITY if low_priority else size.family
    needed = size.cores * count
    for row in resources.usages(location):
        name = row.get("name") or {}
        if "/workspaces/" in str(row.get("id") or ""):
            continue  # the same once more, by workspace
        if not _same(family, name, low_priority=low_priority):
            continue
        limit = row.get("limit")
        said = str(name.get("value") or family)
        if not isinstance(limit, int) or limit < 0:  # -1: no limit is set
            return Quota(said, needed, _count(row), None)
        return Quota(said, needed, _count(row), limit)
    return Quota("low-priority machines" if low_priority else size.family, needed, None, None)


def _same(family: str, name: dict[str, Any], *, low_priority: bool) -> bool:
    said = {_plain(str(name.get("value") or "")), _plain(str(name.get("localizedValue") or ""))} - {""}
    if low_priority:
        return any(LOW_PRIORITY in text for text in said)
    return _plain(family) in said


def _plain(text: str) -> str:
    """A family's name without what the service spells now so, now otherwise."""
    return _FILLING.sub("", text.casefold())


def _count(row: dict[str, Any]) -> int:
    return int(row.get("currentValue") or 0)
