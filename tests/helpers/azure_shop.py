"""A folder to submit to the emulator from: the toy pipeline, whose steps run on nodes that get nothing but the wire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from azft import staging
from azft.azureml import connection, patience
from azft.emulator import Emulator, Settings
from azft.modes.azure import AzureMode
from azft.plan import Plan
from azft.rehearsal.seeds import seed
from tests.helpers import toy as toys
from tests.helpers.toy import PACKAGE, Toy

MACHINES = "modes.maap.instance_types=[Standard_NC24ads_A100_v4]"
MODEL = "model=Phi-4-mini-instruct"


@dataclass
class FakeTime:
    """Time that passes only by sleeping, for azft and the emulator alike. `slept` keeps every wait, in seconds."""

    emu: Emulator
    slept: list[float] = field(default_factory=list)
    _now: float = 1000.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._now += seconds
        self.emu.clock.advance(seconds)

    def now(self) -> float:
        return self._now


@dataclass
class Azure:
    """The emulator as a test sees it."""

    emu: Emulator
    time: FakeTime

    def fault(self, name: str, **filters: Any) -> None:
        self.emu.faults.add(name, **filters)

    def change(self, settings: dict[str, Any]) -> None:
        """Replace some of the emulator's settings while it runs."""
        self.emu.settings = self.emu.settings.changed(settings)

    def sent(self, method: str, *parts: str) -> list[dict[str, Any]]:
        """The requests of a method whose path contains all of `parts`."""
        return [e for e in self.emu.log.list() if e["method"] == method and all(part in e["path"] for part in parts)]

    def connect(self) -> connection.Connection:
        connection.forget_connections()
        return connection.connect()

    def jobs(self) -> list[str]:
        """The names of all jobs that were ever started."""
        return sorted({e["path"].rpartition("/")[2] for e in self.sent("PUT", "/jobs/") if e["status"] in {200, 201}})


@contextmanager
def azure_in_process(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Azure]:
    """Azure without a socket and without waiting; jobs pass through their states by the clock, and nothing is run."""
    emu = Emulator(folder, settings=Settings(executor="none", **settings))
    emu.clock.manual = True
    fake = FakeTime(emu)
    with emu.in_process(), patience.using(patience.Clock(fake.sleep, fake.now)):
        enter(emu, monkeypatch)
        yield Azure(emu, fake)
    emu.stop()
    connection.forget_connections()


@contextmanager
def azure_listening(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Azure]:
    """Azure on loopback, over TLS; what is submitted runs."""
    with Emulator(folder, settings=Settings(**settings)) as emu:
        enter(emu, monkeypatch)
        yield Azure(emu, FakeTime(emu))
    connection.forget_connections()


def enter(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment in which azft finds this emulator and nothing else."""
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZUREML_CURRENT_CLOUD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in emu.environment().items():
        monkeypatch.setenv(name, value)
    connection.forget_connections()


def make_shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The toy pipeline. Its steps know their control folder by heart: a node has none of our environment."""
    control = folder / "toy"
    main = toys.MAIN.replace('os.environ["AZFT_TOY"]', repr(str(control)))
    monkeypatch.setattr(toys, "MAIN", main)
    shop = toys.make_toy(folder)
    bundled = folder / "bundled"
    monkeypatch.setattr(staging, "bundled", lambda name: bundled / name)
    monkeypatch.setattr(staging, "package_zip", lambda: PACKAGE)
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())
    return shop


def plan_in(shop: Toy, mode: AzureMode, azure: Azure, *overrides: str) -> Plan:
    """A plan whose registry model and cluster Azure has."""
    plan = mode.plan(shop.recipe(MODEL, *((MACHINES,) if mode.name == "maap" else ()), *overrides))
    assert not plan.has_errors, plan.findings
    seed(azure.emu, plan)
    azure.emu.log.clear()
    return plan


def eventually(what: Any, seconds: float = 30.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)
