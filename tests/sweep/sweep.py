"""The fault sweep: each flow once to see its requests, then again with each fault at each of them.

A fault strikes once (the flow should ride over it) or from that request on (the flow must end, and say so). Then the
faults are taken away, a new client does the same again, and everything must be as if nothing had happened.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azft.emulator import Fault, Request
from azft.emulator.faults import ALWAYS
from azft.emulator.identity import carries_token
from azft.errors import ExitCode, JobFailedError
from azft.runs import RunState, RunStore
from tests.sweep import invariants
from tests.sweep.flows import FLOWS, Flow
from tests.sweep.world import Client, Template, World, living


@dataclass(frozen=True)
class Kind:
    """One way in which a request goes wrong. `rides`: azft must succeed all the same."""

    name: str
    faults: tuple[tuple[str, dict[str, Any]], ...]
    lasts: bool = False
    rides: bool = False
    codes: frozenset[ExitCode] = frozenset({ExitCode.FAILURE})
    """Exit codes that a failure may have."""
    fits: str = r""
    """What "METHOD path" must contain."""
    signed: bool = False
    """Only for requests that carry a token."""
    unless: str = r"^$"
    """Requests at which it need not be ridden over, and the sign-in may be said to fail."""

    def may(self, request: Request) -> frozenset[ExitCode]:
        """The exit codes with which a flow may end when it strikes a request; none when it must not fail."""
        if re.search(self.unless, f"{request.method} {request.path}"):
            return frozenset({ExitCode.SIGN_IN})
        return frozenset() if self.rides else self.codes

    def strikes(self, request: Request) -> bool:
        """Whether it would change anything about a request."""
        if self.signed and not carries_token(request):
            return False
        return re.search(self.fits, f"{request.method} {request.path}", re.IGNORECASE) is not None


_OUTAGE = frozenset({ExitCode.FAILURE, ExitCode.SIGN_IN})
"""Where no token can be had, it is the sign-in that fails."""
_MADE = r"^PUT .*/(jobs|serverlessEndpoints|deployments|computes|marketplaceSubscriptions)/"


def _kinds() -> Iterator[Kind]:
    ways: dict[str, dict[str, Any]] = {
        "throttled": {"retry_after": 7},
        "server-error": {"status": 500},
        "server-error 408": {"status": 408},
        "server-error 503": {"status": 503},
        "connection-reset": {},
        "slow": {"seconds": 1000},
        "answer-lost": {},
    }
    for way, params in ways.items():
        name = way.partition(" ")[0]
        yield Kind(f"{way}, once", ((name, params),), rides=True)
        if way == name:
            yield Kind(f"{way}, lasting", ((name, params),), lasts=True, codes=_OUTAGE)
    yield Kind("token-expired, once", (("token-expired", {}),), rides=True, signed=True)
    yield Kind(
        "token-expired, lasting", (("token-expired", {}),), lasts=True, codes=frozenset({ExitCode.SIGN_IN}), signed=True
    )
    yield Kind("not-visible-yet, once", (("not-visible-yet", {}),), rides=True, fits="^PUT ")
    yield Kind(
        "not-visible-yet and answer-lost", (("not-visible-yet", {}), ("answer-lost", {})), rides=True, fits="^PUT "
    )
    # The address of a log is signed and of its moment: the next look gets another one.
    yield Kind(
        "storage-keys-disabled, lasting",
        (("storage-keys-disabled", {}),),
        lasts=True,
        rides=True,
        unless="^GET .*/user_logs/",
    )
    yield Kind(
        "body-normalised and answer-lost",
        (("body-normalised", {}), ("answer-lost", {})),
        rides=True,
        fits="^PUT .*/jobs/",
    )
    yield Kind(
        "body-normalised, not-visible-yet and slow",
        (("body-normalised", {}), ("not-visible-yet", {}), ("slow", {"seconds": 1000})),
        rides=True,
        fits="^PUT .*/jobs/",
    )
    refused = frozenset({ExitCode.FAILURE, ExitCode.LIMIT, ExitCode.JOB_FAILED})
    yield Kind("quota-exhausted, once", (("quota-exhausted", {}),), codes=refused, fits=_MADE)
    yield Kind("quota-exhausted, lasting", (("quota-exhausted", {}),), lasts=True, codes=refused, fits=_MADE)
    yield Kind("region-refuses-model, once", (("region-refuses-model", {}),), codes=refused, fits=_MADE)
    yield Kind("image-build-failed, once", (("image-build-failed", {}),), codes=refused, fits=_MADE)
    yield Kind("node-preempted, once", (("node-preempted", {}),), rides=True, fits="^PUT .*/jobs/")


KINDS = {kind.name: kind for kind in _kinds()}


@dataclass
class Sweep:
    """The flows over one template, with what each stands on, prepared once."""

    template: Template
    folder: Path
    _done: dict[str | None, Path] = field(default_factory=dict)
    _ready: dict[str, Path] = field(default_factory=dict)
    _requests: dict[str, list[Request]] = field(default_factory=dict)
    _whole: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    _number: int = 0

    def requests(self, name: str) -> list[Request]:
        """The requests of a flow in which nothing goes wrong."""
        self.done(name)
        return self._requests[name]

    def whole(self, name: str) -> dict[str, dict[str, str]]:
        """The assets that a flow leaves when nothing goes wrong, with their files."""
        self.done(name)
        return self._whole[name]

    def cases(self, name: str) -> Iterator[tuple[int, Kind]]:
        """Every request of a flow with every fault that would change something about it."""
        for number, request in enumerate(self.requests(name)):
            for kind in KINDS.values():
                if kind.strikes(request):
                    yield number, kind

    def sample(self, name: str, most: int) -> list[tuple[int, Kind]]:
        """A part of the cases that covers: every fault where something is made, the rest spread over all requests."""
        seen: set[tuple[str, str]] = set()
        first, rest = [], []
        for number, kind in self.cases(name):
            request = self.requests(name)[number]
            shape = f"{request.method} {re.sub(r'[0-9a-f]{8}[-0-9a-z]*|[^/]*[.][^/]*', '*', request.path)}"
            if (shape, kind.name) in seen:
                continue
            seen.add((shape, kind.name))
            made = re.search(_MADE, f"{request.method} {request.path}")
            (first if made else rest).append((number, kind))
        if FLOWS[name].plan in {"azft", "cluster"}:  # ten times as dear; what they make, others make too
            first, most = first[::4], most // 2
        left = max(0, most - len(first))
        # A stride that shares no factor with the number of kinds meets all of them, and all requests.
        stride = max(1, len(rest) // max(1, left))
        return first + rest[:: stride + (stride % 2 == 0)]

    def done(self, name: str | None) -> Path:
        """The folders of a world in which a flow was done (None: in which nothing was)."""
        if name not in self._done:
            with self.world(None if name is None else self.ready(name), keep=True) as world:
                if name is None:
                    world.seed()
                else:
                    self._record(world, FLOWS[name])
            world.copy_to(self.folder / f"done {name}")
            self._done[name] = self.folder / f"done {name}"
        return self._done[name]

    def ready(self, name: str) -> Path:
        """The folders of a world in which a flow can begin."""
        if name not in self._ready:
            flow = FLOWS[name]
            with self.world(self.done(flow.on), keep=True) as world:
                flow.prepare(world)
            world.copy_to(self.folder / f"ready {name}")
            self._ready[name] = self.folder / f"ready {name}"
        return self._ready[name]

    def _record(self, world: World, flow: Flow) -> None:
        client = world.client()
        result = flow.act(client)
        flow.says(client, result)
        self._requests[flow.name] = list(world.requests)
        self._whole[flow.name] = invariants.assets(world)
        invariants.check(world, self._whole[flow.name])

    def world(self, source: Path | None, *, keep: bool = False) -> _Lived:
        """A world that begins as the folders say, to live in with `with`."""
        self._number += 1
        folder = self.folder / f"world {self._number}"
        if source is None:
            folder.mkdir(parents=True)
        else:
            shutil.copytree(source, folder)
        return _Lived(self.template, folder, keep=keep)

    def live(self, name: str, number: int, kind: Kind) -> str:
        """Do a flow with a fault at one request, then once more without; what came of it. Raises what is wrong."""
        flow, whole = FLOWS[name], self.whole(name)
        with self.world(self.ready(name)) as world:
            before = _states(world)
            world.on_request = _strike(world, number, kind)
            outcome = "fine"
            client = world.client()
            try:
                result = flow.act(client)
            except Exception as error:
                told = invariants.is_told(error, kind.may(world.requests[number]))
                outcome = f"{type(told).__name__} {int(told.exit_code)}"
            else:
                flow.says(client, result)
            assert world.count > number, "the request never came"
            invariants.check(world, whole)
            if flow.reads:
                _unchanged(before, _states(world), name)
            world.on_request = lambda _number, _request: None
            world.emu.faults.clear()
            world.emu.clock.advance(60)
            if flow.reads:  # a process that watches goes on after an outage
                self._again(world, flow, whole, client)
            self._again(world, flow, whole, world.client())
            return outcome

    def _again(self, world: World, flow: Flow, whole: dict[str, dict[str, str]], client: Client) -> None:
        """The same once more, when all is well."""
        try:
            result = flow.act(client)
        except JobFailedError as error:
            invariants.is_told(error)
            job = world.emu.state.get("run", world.template.plans[flow.plan].run_name) or {}
            if job.get("status") != "Failed":
                raise AssertionError(f"it is said to have failed: {error}") from error
        else:
            flow.says(client, result)
        invariants.check(world, whole)


class _Lived:
    """A world to live in, thrown away afterwards unless it is kept."""

    def __init__(self, template: Template, folder: Path, *, keep: bool) -> None:
        self.world = World(template, folder)
        self.keep = keep
        self.living: Any = None

    def __enter__(self) -> World:
        self.living = living(self.world)
        return self.living.__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *error: Any) -> None:
        self.living.__exit__(*error)
        if not self.keep:
            self.world.close()
            shutil.rmtree(self.world.folder)


def _strike(world: World, number: int, kind: Kind) -> Any:
    """Set the faults right before a request; what strikes once is gone after it, except what it left behind."""

    def on_request(current: int, _request: Request) -> None:
        if current == number:
            for name, params in kind.faults:
                always = kind.lasts or name == "body-normalised"  # it is asked about when the job is sent again
                world.emu.faults.add(Fault(name, times=ALWAYS if always else 1, params=params))
        elif current == number + 1 and not kind.lasts:
            for name, _ in kind.faults:
                if name != "body-normalised":
                    world.emu.faults.clear(name)

    return on_request


def _states(world: World) -> dict[str, RunState]:
    return {run.name: run.recorded_status().state for run in RunStore(world.home).list()}


def _unchanged(before: dict[str, RunState], after: dict[str, RunState], flow: str) -> None:
    """What is known of a run only ever becomes what Azure says: an outage is no news."""
    for name, state in after.items():
        true = {RunState.RUNNING} if flow.startswith(("watch", "runs")) else {RunState.COMPLETED}
        assert state == before.get(name) or state in true, f"{name} became {state}"
