"""The surroundings of a step's processes: environment variables, threads, which Python `python` means, several ranks.

Nothing set here tells a step that it is local; it gets what any node would give it.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import azft

_DROPPED = (
    "AZUREML_RUN_ID",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)
"""Never inherited: AZUREML_RUN_ID would make a step believe that it runs in Azure ML; the others are their setter's."""


def available_cores() -> int:
    """Cores that this process may use, container limits included."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return cores


def step_environment(variables: Mapping[str, str], *, processes: int, bin_folder: Path | None = None) -> dict[str, str]:
    """Environment variables for a step: this process's, sane thread settings, and the step's own, which win.

    Two OpenMP threads that spin beside anything else busy slow small models up to 40 times, hence the passive waiting.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // processes)))
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("GOMP_SPINCOUNT", "0")
    environment.setdefault("KMP_BLOCKTIME", "0")
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    if bin_folder is not None:
        environment["PATH"] = f"{bin_folder}{os.pathsep}{environment.get('PATH', os.defpath)}"
    return {**environment, **variables}


def python_folder(folder: Path) -> Path:
    """A folder whose `python` is the interpreter that runs now: its own, or `folder` with a small script in it.

    A symbolic link would not do: an interpreter finds its virtual environment by the name it is started under.
    """
    own = Path(sys.executable).parent
    if (own / "python").exists():
        return own
    script = folder / "python"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return folder


def own_module(name: str) -> tuple[str, ...]:
    """The command line of a module of this very azft, also of one that isn't installed.

    Steps inherit no PYTHONPATH, so it names where it is; for what plays a part of Azure, never for a job's own code.
    """
    return ("env", f"PYTHONPATH={Path(azft.__file__).parent.parent}", sys.executable, "-m", name)


def command_line(command: str, *, processes: int) -> list[str]:
    """Arguments that run a step's command once, or once for each rank through torchrun."""
    shell = ["bash", "-c", command]
    if processes == 1:
        return shell
    return [
        sys.executable, "-m", "torch.distributed.run",
        "--standalone", "--no-python", "--nproc-per-node", str(processes),
        *shell,
    ]  # fmt: skip
