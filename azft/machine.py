"""What this machine has: versions, cores, memory, GPUs, caches, and what is missing for what. Imports nothing heavy.

Versions are read from package metadata, and GPUs from the driver's own tool, so that torch isn't needed to say so.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import azft
from azft import host_memory
from azft.extras import EXTRAS, FOR_GPUS, LOCAL_MODE
from azft.findings import Finding, Severity


@dataclass(frozen=True)
class Extra:
    """One extra: which of its packages are here (name -> version) and which are not."""

    name: str
    purpose: str
    installed: dict[str, str]
    missing: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything of it is installed."""
        return not self.missing


@dataclass(frozen=True)
class Gpu:
    """One GPU, as its driver names it; memory in MiB."""

    name: str
    memory_mib: int


@dataclass(frozen=True)
class Machine:
    """Everything that `azft doctor` shows. Memory and disk in bytes, None where the system doesn't say."""

    azft: str
    python: str
    platform: str
    cores: int
    memory: int | None
    gpus: tuple[Gpu, ...]
    cache: str
    cache_free: int | None
    extras: tuple[Extra, ...]
    findings: tuple[Finding, ...]

    @property
    def ready(self) -> bool:
        """Whether a recipe can be trained here."""
        return all(extra.complete for extra in self.extras if extra.name in LOCAL_MODE)

    def _repr_html_(self) -> str:
        from azft.views_html.setup import show_machine

        return show_machine(self)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **asdict(self),
            "gpus": [asdict(gpu) for gpu in self.gpus],
            "extras": [{**asdict(extra), "missing": list(extra.missing)} for extra in self.extras],
            "findings": [finding.to_dict() for finding in self.findings],
            "ready": self.ready,
        }


def inspect_machine() -> Machine:
    """Look at this machine; takes some 10 ms, and up to 5 s where a GPU's driver is slow to answer."""
    from azft.catalog.cache import cache_root

    cache = cache_root()
    extras = tuple(_extra(name, purpose, packages) for name, (purpose, packages) in EXTRAS.items())
    gpus = _gpus()
    wanted = tuple(extra for extra in extras if gpus or extra.name not in FOR_GPUS)
    return Machine(
        azft=azft.__version__,
        python=platform.python_version(),
        platform=platform.platform(aliased=True, terse=True),
        cores=usable_cores(),
        memory=host_memory.total(),
        gpus=gpus,
        cache=str(cache),
        cache_free=_free(cache),
        extras=extras,
        findings=tuple(_findings(wanted, cache)),
    )


def usable_cores() -> int:
    """Cores that this process may use: its affinity, or a container's quota where that is less."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(available, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or no quota ("max")
        return available


def _extra(name: str, purpose: str, packages: tuple[str, ...]) -> Extra:
    installed: dict[str, str] = {}
    for package in packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return Extra(name, purpose, installed, tuple(package for package in packages if package not in installed))


def _gpus() -> tuple[Gpu, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = (line.rpartition(",") for line in answer.splitlines())
    return tuple(Gpu(name.strip(), int(memory)) for name, _, memory in rows if memory.strip().isdigit())


def _free(folder: Path) -> int | None:
    while not folder.exists():
        if folder == folder.parent:
            return None
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _findings(extras: tuple[Extra, ...], cache: Path) -> list[Finding]:
    found = []
    for extra in extras:
        if not extra.complete:
            severity = Severity.WARNING if extra.name in LOCAL_MODE else Severity.INFO
            message = f"Not installed: {', '.join(extra.missing)} ({extra.purpose})."
            command = f"{Path(sys.executable).name} -m pip install 'azft[{extra.name}]'"
            found.append(Finding(f"machine-no-{extra.name}", severity, message, f"Install: {command}"))
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if not os.access(there, os.W_OK):
        message = f"The cache {cache} can't be written."
        fix = "Set AZFT_CACHE to a folder that can."
        found.append(Finding("machine-cache-read-only", Severity.ERROR, message, fix))
    return found
