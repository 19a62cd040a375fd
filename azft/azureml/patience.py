"""The one place where a request to Azure is tried again: it honours Retry-After, waits longer each time, and gives up.

The SDK's own retries are off, because they would repeat what must not be repeated and would say nothing of it. Time is
injected (`using`), so that tests wait for nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from azft.azureml.errors import Answer, blot, read, translate
from azft.errors import AzftError

Result = TypeVar("Result")

LIMIT = 120.0
"""Seconds that one request may wait altogether; AZFT_AZURE_PATIENCE sets another number."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as `call` sees it, in seconds."""

    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try: at most `attempts`, waiting `first` seconds, then twice that, never longer than `longest`.

    A wait that the service asks for is honoured to the second, as long as it fits into `limit` seconds altogether.
    """

    attempts: int = 6
    first: float = 0.5
    longest: float = 20.0
    limit: float = LIMIT

    def waits(self) -> Iterator[float]:
        """Seconds before the second, third, ... attempt."""
        wait = self.first
        for _ in range(self.attempts - 1):
            yield wait
            wait = min(wait * 2, self.longest)


class Renewable(Protocol):
    """What remembers tokens, and can forget them."""

    def forget(self) -> None:
        """Forget them: Azure refused one."""


renewable: WeakSet[Renewable] = WeakSet()
"""Every credential in use; one that Azure finds expired is asked for anew, once a request."""

_clock: ContextVar[Clock | None] = ContextVar("azft_clock", default=None)
_REAL = Clock()


def clock() -> Clock:
    """The clock in use."""
    return _clock.get() or _REAL


@contextmanager
def using(other: Clock) -> Iterator[None]:
    """Take time from another clock in this block."""
    before = _clock.set(other)
    try:
        yield
    finally:
        _clock.reset(before)


Listener = Callable[[dict[str, Any]], None]

_listener: ContextVar[Listener | None] = ContextVar("azft_listener", default=None)
_UNSAID = 1.0
"""Seconds: a shorter wait, that nobody asked for, is not worth a line."""


@contextmanager
def telling(listener: Listener) -> Iterator[None]:
    """Tell this listener of every wait in this block, when it begins: silence would look like a hang."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


def tell_wait(what: str, answer: Answer, seconds: float, *, at_most: bool = False) -> None:
    """Say that a wait begins, as {"event": "waiting", "what", "status", "asked", "seconds", "at_most"}.

    `status` is of the answer that made us wait, None for no answer; `asked` says whether the service asked for a wait
    (429, 503, or its Retry-After); `at_most` that it ends sooner when what is waited for shows up.
    """
    asked = answer.retry_after is not None or answer.status in (429, 503)
    listener = _listener.get()
    if listener is not None and seconds > 0 and (asked or seconds >= _UNSAID):
        waiting = {"what": what, "status": answer.status, "asked": asked, "seconds": seconds, "at_most": at_most}
        listener({"event": "waiting", **waiting})


def default_patience() -> Patience:
    """The patience of the environment."""
    try:
        return Patience(limit=float(os.environ["AZFT_AZURE_PATIENCE"]))
    except (KeyError, ValueError):
        return Patience()


def call(
    what: str, function: Callable[[], Result], *, idempotent: bool = True, patience: Patience | None = None
) -> Result:
    """The result of a request. `what` names it in errors, as in "Reading the workspace".

    What may be repeated (`idempotent`) is, after an unclear answer or an expired token. Anything else is sent once, and
    an unclear answer is raised as `ServiceUnavailableError` for the caller to settle by looking. Raises `AzftError`.
    """
    patience = patience or default_patience()
    time_is = clock()
    deadline = time_is.now() + patience.limit
    waits = patience.waits()
    renewed = False
    while True:
        try:
            return function()
        except AzftError:
            raise
        except Exception as error:
            blot(error)
            answer = read(error)
            if answer is None:
                if _is_azure(error):
                    raise translate(error, what) from error
                raise
            if answer.status == 401:
                for credential in list(renewable):
                    credential.forget()
            if not idempotent:
                raise translate(error, what) from error
            if answer.status == 401 and not renewed:
                renewed = True
                continue
            wait = next(waits, None) if answer.unclear and not _hopeless(answer) else None
            if wait is not None and answer.retry_after is not None:
                wait = answer.retry_after
            if wait is None or time_is.now() + wait > deadline:
                raise translate(error, what) from error
            tell_wait(what, answer, wait)
            time_is.sleep(wait)


def _hopeless(answer: Answer) -> bool:
    """Whether trying again can't help: a certificate stays untrusted, and a quota stays used up."""
    words = f"{answer.code} {answer.words}".lower()
    return "certificate_verify_failed" in words or "certificate verify failed" in words


def _is_azure(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in {"azure", "marshmallow", "msrest"}
