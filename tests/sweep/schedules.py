"""Random schedules: two clients at once, switched at every request, with faults, and with ends as by kill -9.

A client runs in a thread of its own, but only one of them ever runs: at each request, each wait and each lock that
another holds it stops, and the schedule's random numbers say who goes on and what becomes of the request. A client
that is killed is gone in the middle of it; a new one begins with what is on the disk. So a seed is a whole history.
"""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
from filelock import FileLock, Timeout

from azft.azureml.patience import using
from azft.emulator import Fault, Request
from azft.emulator.faults import ALWAYS
from azft.errors import AzftError, ExitCode
from tests.sweep import invariants
from tests.sweep.flows import FLOWS, Flow
from tests.sweep.sweep import Sweep
from tests.sweep.world import World

WEIGHTS = {
    "submit maas": 30,
    "submit finetuning": 20,
    "submit system": 14,
    "submit market": 10,
    "submit azft": 4,
    "submit cluster": 2,
    "deploy serverless": 8,
    "deploy mlflow": 4,
    "register azft": 4,
    "resume": 2,
    "cancel": 2,
}
_FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("throttled", {"retry_after": 3}),
    ("throttled", {"retry_after": 90}),
    ("server-error", {"status": 500}),
    ("server-error", {"status": 503}),
    ("server-error", {"status": 408}),
    ("connection-reset", {}),
    ("slow", {"seconds": 1000}),
    ("answer-lost", {}),
    ("answer-lost", {}),
    ("token-expired", {}),
    ("not-visible-yet", {}),
)
_LIVES = 4
"""How often a person begins anew, after a failure or a kill, before the faults end."""
PATIENCE = 60.0
"""Real seconds until a client that neither goes on nor ends is taken for a deadlock."""


class Killed(BaseException):
    """The process is gone: nothing catches this."""


@dataclass
class History:
    """What came of a schedule, for its report."""

    seed: int
    flow: str
    machines: int
    events: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = "\n  ".join(self.events)
        return f"seed {self.seed}: {self.flow}, on {self.machines} machine(s)\n  {told}"


class _Person(threading.Thread):
    """Somebody who does the same again until it is done; each time a new process."""

    def __init__(self, schedule: Schedule, number: int, home: Path) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self.schedule = schedule
        self.number = number
        self.home = home
        self.turn = threading.Semaphore(0)
        self.error: BaseException | None = None

    def run(self) -> None:
        self.turn.acquire()
        try:
            with using(self.schedule.world.clock):
                for _ in range(_LIVES):
                    if self._live():
                        break
        except BaseException as error:
            self.error = error
        finally:
            self.schedule.done(self)

    def _live(self) -> bool:
        schedule = self.schedule
        client = schedule.world.client(self.home)
        try:
            schedule.flow.says(client, schedule.flow.act(client))
        except Killed:
            return False
        except AzftError as error:
            schedule.note(f"client {self.number} fails: {error.message}")
            invariants.is_told(error, {ExitCode.FAILURE, ExitCode.SIGN_IN, ExitCode.JOB_FAILED})
            return False
        schedule.note(f"client {self.number} is done")
        return True


class Schedule:
    """One history of two clients. `run` raises what is wrong with it."""

    def __init__(self, seed: int, sweep: Sweep) -> None:
        self.random = random.Random(seed)
        name = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        self.flow: Flow = FLOWS[name]
        self.sweep = sweep
        self.history = History(seed, name, self.random.choice((1, 2)))
        self.control = threading.Semaphore(0)
        self.people: list[_Person] = []
        self.world: World
        self.counts: Counter[str] = Counter()
        self._fault_rate = self.random.choice((0.02, 0.1, 0.3))
        self._kill_rate = self.random.choice((0.0, 0.02, 0.06))
        self._after: Callable[[], None] | None = None
        self.extra: list[Fault] = []
        """Faults that wait from the beginning on."""

    def run(self) -> History:
        """Live it, then do the same once more without faults."""
        sweep = self.sweep
        sweep.done(self.flow.name)
        whole = sweep.whole(self.flow.name)
        with sweep.world(sweep.ready(self.flow.name)) as world:
            self.world = world
            homes = [world.home] * 2
            if self.history.machines == 2:
                homes[1] = world.folder / "home of the other"
                if world.home.is_dir():
                    shutil.copytree(world.home, homes[1])
            world.on_request, world.after_request, world.on_sleep = self._before, self._then, self._park
            if self.random.random() < 0.3:
                world.emu.faults.add(Fault("body-normalised", times=ALWAYS))
            for fault in self.extra:
                world.emu.faults.add(fault)
            world.emu.settings = world.emu.settings.changed({"visible_seconds": self.random.choice((2, 5, 40))})
            self._live(homes)
            world.on_request = world.after_request = lambda _number, _request: None
            world.on_sleep = lambda: None
            world.emu.faults.clear()
            world.emu.clock.advance(100)
            for home in dict.fromkeys(homes):
                client = world.client(home)
                self.flow.says(client, self.flow.act(client))
            invariants.check(world, whole)
        return self.history

    def _live(self, homes: list[Path]) -> None:
        self.people = [_Person(self, number, home) for number, home in enumerate(homes)]
        waiting = list(self.people)
        for person in waiting:
            person.start()
        while waiting:
            person = self.random.choice(waiting)
            person.turn.release()
            if not self.control.acquire(timeout=PATIENCE):
                raise AssertionError(f"client {person.number} neither goes on nor ends")
            waiting = [other for other in waiting if other.is_alive() and other not in self._finished]
        for person in self.people:
            person.join(10)
        for person in self.people:
            if person.error is not None:
                raise person.error

    @property
    def _finished(self) -> set[_Person]:
        return self.__dict__.setdefault("_ended", set())  # type: ignore[no-any-return]

    def done(self, person: _Person) -> None:
        """A client's thread has ended."""
        self._finished.add(person)
        self.control.release()

    def note(self, event: str) -> None:
        """Write down what happened."""
        self.history.events.append(event)

    def _park(self) -> None:
        """Stop until the schedule says go on."""
        me = threading.current_thread()
        if isinstance(me, _Person):
            self.control.release()
            me.turn.acquire()

    def _before(self, _number: int, request: Request) -> None:
        """Whatever becomes of a request before it is answered."""
        me = threading.current_thread()
        if not isinstance(me, _Person):
            return
        self._park()
        self._forget()
        what = f"client {me.number} {request.method} {request.path.partition('/workspaces/')[2] or request.path}"
        chance = self.random.random()
        if chance < self._kill_rate and self.counts["kills"] < 3:
            self.counts["kills"] += 1
            if self.random.random() < 0.5:
                self.note(f"{what}: killed before it")
                raise Killed
            self.note(f"{what}: killed after it")
            self._after = self._kill
        elif chance < self._kill_rate + self._fault_rate and self.counts["faults"] < 12:
            self.counts["faults"] += 1
            name, params = self.random.choice(_FAULTS)
            times = self.random.choice((1, 1, 1, 2, 8, 40)) if name != "not-visible-yet" else 1
            self.note(f"{what}: {name} {params or ''} x {times}")
            self.world.emu.faults.add(Fault(name, times=times, params=params))
        else:
            self.note(what)

    def _then(self, _number: int, _request: Request) -> None:
        after, self._after = self._after, None
        if after is not None:
            after()

    def _kill(self) -> None:
        raise Killed

    def _forget(self) -> None:
        """A fault that was meant for one request and did not fit it is gone."""
        faults = self.world.emu.faults
        left = [fault for fault in faults._faults if fault.name == "body-normalised" or fault.times > 1 or fault.path]
        if len(left) != len(faults._faults):
            faults.set(left)


class Lock(FileLock):
    """A lock between processes for which a client of a schedule waits by letting the others go on."""

    parked: Callable[[], None] | None = None

    def acquire(self, timeout: float | None = None, poll_interval: float | None = None, **options: Any) -> Any:
        """See `FileLock.acquire`."""
        if not isinstance(threading.current_thread(), _Person):
            return super().acquire(timeout=timeout, **options)
        limit = self.timeout if timeout is None else timeout
        me, tries = threading.current_thread(), 0
        assert isinstance(me, _Person)
        while True:
            try:
                return super().acquire(timeout=0, **options)
            except Timeout:
                tries += 1
                if 0 <= limit < tries * 0.25:
                    raise
                me.schedule.world.sleep(0.25)


class _Locks(defaultdict[str, Any]):
    """Where the SDK keeps a lock for all clients of a process, two processes have two."""

    def __missing__(self, _key: str) -> Any:
        return threading.Lock()


class _Renewable:
    """The sign-ins of a process, which a refused token lets go of; a client's are its thread's."""

    def __init__(self) -> None:
        self._own = threading.local()

    def add(self, credential: Any) -> None:
        vars(self._own).setdefault("found", WeakSet()).add(credential)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(vars(self._own).get("found", ())))


@contextlib.contextmanager
def as_processes() -> Iterator[None]:
    """Let two threads be as far apart as two processes: no lock in memory is shared between them."""
    from azure.ai.ml._utils import _cache_utils

    from azft.azureml import connection, patience, storage
    from azft.runs import record, store

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_cache_utils, "_node_resolution_lock", _Locks(threading.Lock))
        for owner in (connection.Connection, storage.Storage):
            for value in vars(owner).values():
                if isinstance(value, functools.cached_property) and hasattr(value, "lock"):  # until Python 3.12
                    patch.setattr(value, "lock", contextlib.nullcontext())
        patch.setattr(patience, "renewable", _Renewable())
        for module in (record, store):
            patch.setattr(module, "FileLock", Lock)
        yield
