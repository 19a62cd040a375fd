"""What a run ran on, as far as it matters for repeating it: versions, machine, commit. Never environment variables."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import azft
from azft import host_memory
from azft.redact import redact

_PACKAGES = (
    "accelerate", "azure-ai-ml", "azureml-mlflow", "bitsandbytes", "deepspeed", "mlflow", "numpy", "peft", "pyarrow",
    "pydantic", "safetensors", "tokenizers", "torch", "transformers",
)  # fmt: skip


def describe_environment(recipe_folder: Path) -> dict[str, Any]:
    """JSON-able facts: azft, python, platform, packages, cpu, memory (bytes), gpus, git commit of the recipe."""
    return {
        "azft": azft.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": _versions(),
        "cpu": {"name": _cpu_name(), "cores": os.cpu_count()},
        "memory_bytes": host_memory.total(),
        "gpus": _gpus(),
        "git": _git(recipe_folder),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    text = _output(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    return [line.strip() for line in (text or "").splitlines() if line.strip()]


def _git(folder: Path) -> dict[str, Any] | None:
    commit = _output(["git", "-C", str(folder), "rev-parse", "HEAD"])
    if not commit:
        return None
    changed = _output(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
    return {"commit": commit.strip(), "changed": bool(changed and changed.strip())}


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return redact(done.stdout) if done.returncode == 0 else None
