from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from azft.emulator import Emulator, Request
from tests.sweep import invariants
from tests.sweep.sweep import Sweep
from tests.sweep.world import World, settings

PLANS = ("maas", "azft")


class Nursery:
    """Where clients come from: a process that forks one at each order."""

    def __init__(self, log: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
        environment.pop(
            "AZUREML_CURRENT_CLOUD", None
        )  # left by an earlier test's connection; another process has no such cloud
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sweep.client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )
        self.client: int | None = None
        assert self._read() == "ready"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def live(self, order: dict[str, Any]) -> int:
        """The exit code of a client; -9 for one that was killed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self.client = int(self._read())
        return int(self._read())

    def kill(self) -> None:
        """kill -9 of the client that lives."""
        while self.client is None:  # its first request came before we read who it is
            threading.Event().wait(0.001)
        os.kill(self.client, signal.SIGKILL)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._log.close()


@pytest.fixture(scope="module")
def nursery(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    made = Nursery(tmp_path_factory.mktemp("nursery") / "log.txt")
    yield made
    made.close()


def live(sweep: Sweep, nursery: Nursery, name: str, at: int, *, after: bool) -> int:
    """Kill a client at one of its requests, before it is answered or after it was applied; how many it made."""
    folder = sweep.folder / f"killed {name} {at} {after}"
    with sweep.world(sweep.done(None)) as seeded:
        shutil.copytree(seeded.folder / "azure", folder / "azure")
    plan = folder / "plan.json"
    plan.write_bytes(sweep.template.plans[name].to_json())
    world = World(sweep.template, folder)
    emu: Emulator = world.emu
    emu.settings = settings(sweep.template.folder)
    count = 0

    def strike(current: int, _request: Request) -> None:
        nonlocal count
        count = current + 1
        if current == at:
            nursery.kill()

    with emu:
        order = {"home": str(world.home), "plan": str(plan), "environment": emu.environment()}
        setattr(world, "after_request" if after else "on_request", strike)
        nursery.client = None
        assert nursery.live(order) == -signal.SIGKILL
        world.on_request = world.after_request = lambda _number, _request: None
        nursery.client = None
        assert nursery.live(order) == 0
        assert world.jobs(sweep.template.plans[name]) == [sweep.template.plans[name].run_name]
        invariants.check(world, sweep.whole(f"submit {name}"))
    return count


@pytest.mark.parametrize("name", PLANS)
def test_a_client_that_is_killed_loses_and_doubles_nothing(sweep: Sweep, nursery: Nursery, name: str) -> None:
    requests = sweep.requests(f"submit {name}")
    job = next(
        number for number, request in enumerate(requests) if request.method == "PUT" and "/jobs/" in request.path
    )
    for at, after in ((2, False), (job // 2, True), (job, False), (job, True)):
        assert live(sweep, nursery, name, at, after=after) >= at


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANS)
def test_a_client_that_is_killed_at_any_request(sweep: Sweep, nursery: Nursery, name: str) -> None:
    for at in range(len(sweep.requests(f"submit {name}")) - 4):  # the last ones only look
        for after in (False, True):
            live(sweep, nursery, name, at, after=after)
