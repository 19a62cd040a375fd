"""How counts, sizes, times and places are said, at a terminal and in a notebook alike."""

from __future__ import annotations

import re
from pathlib import Path

MODES = {
    "local": "local: on this machine; nothing is sent, nothing is billed",
    "maas": "maas: Azure's serverless fine-tuning",
    "maap": "maap: machines of your Azure ML workspace",
}
"""What each mode means."""


_REGISTRY_MODEL = re.compile(r"azureml://registries/([^/]+)/models/([^/]+)/(versions|labels)/([^/]+)")


def plural(count: int, noun: str) -> str:
    """`1 error`, `2 errors`, `1,204 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes as a person reads them: `812 B`, `1.4 MiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def place(path: Path | str) -> str:
    """A path as short as it can be said from here."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def duration(seconds: float) -> str:
    """Seconds as a person reads them: `4 s`, `2 min 05 s`, `3 h 12 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def minute(written: str) -> str:
    """A record's time (UTC, ISO 8601) to the minute: `2026-11-24 03:40`."""
    return written[:16].replace("T", " ")


def model_name(identifier: str) -> str:
    """A registry's model by its name; whatever else names a model, as it is."""
    if (found := _REGISTRY_MODEL.fullmatch(identifier)) is None:
        return identifier
    registry, name, kind, which = found.groups()
    label = "the newest version" if which == "latest" else f"the version labelled {which}"
    return f"{name}, {f'version {which}' if kind == 'versions' else label} in the registry {registry}"
