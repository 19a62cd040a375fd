"""What can go wrong, by intent: each fault is named for what a client lives through, not for how it is done.

A fault waits for requests (or, for a job's own mishaps, for moments) that fit its filter, lets `after` of them pass,
and then strikes `times` times. Faults are kept in the state, so that a restart in mid-sweep changes nothing.
"""

from __future__ import annotations

import re
import threading
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from azft.emulator.state import State

REQUEST_FAULTS = {
    "throttled": "429 with Retry-After; `params.retry_after` seconds (default 1)",
    "server-error": "an error of the service; `params.status` (default 500)",
    "connection-reset": "the connection is cut before anything was applied",
    "slow": "the request is applied at once, but its answer takes `params.seconds` (default 5)",
    "answer-lost": "the request is applied, then the connection is cut instead of answering",
    "token-expired": "401: the token has expired in mid-flow",
    "not-visible-yet": "what was just created answers 404 to GET for `settings.visible_seconds`",
    "storage-keys-disabled": "the storage account takes identities only, neither keys nor SAS signed by one",
}
HOOK_FAULTS = {
    "quota-exhausted": "no cores are left in the VM family",
    "region-refuses-model": "the model cannot be fine-tuned or served in this region",
    "node-preempted": "the node is taken away at step `params.step`; the job starts again on another",
    "image-build-failed": "the environment's image cannot be built",
    "body-normalised": "the service keeps a job's body in another form than it was sent",
}
NAMES = {**REQUEST_FAULTS, **HOOK_FAULTS}
ALWAYS = -1
"""For `times`: until it is removed."""


@dataclass(frozen=True)
class Fault:
    """One fault: where it strikes, after how many that fit, and how often."""

    name: str
    method: str = "*"
    path: str = ""
    """A regular expression that the path contains; empty fits every path."""
    times: int = 1
    after: int = 0
    where: dict[str, Any] = field(default_factory=dict)
    """For a job's mishaps: what the moment must be, e.g. {"step": "finetune"}."""
    params: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"no fault is named {self.name!r}; there are: {', '.join(NAMES)}")
        re.compile(self.path)

    def fits(self, context: dict[str, Any]) -> bool:
        """Whether a moment is one that this fault waits for."""
        if self.method not in {"*", ""} and self.method.upper() != str(context.get("method", self.method)).upper():
            return False
        if self.path and not re.search(self.path, str(context.get("path", "")), re.IGNORECASE):
            return False
        return all(context.get(key) == value for key, value in self.where.items())

    def number(self, name: str, default: float) -> float:
        """One of the params as a number."""
        return float(self.params.get(name, default))


class Faults:
    """The faults that wait, in the order in which they were set."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = threading.RLock()
        kept = state.get("faults", "faults") or {"faults": []}
        self._faults = [Fault(**item) for item in kept["faults"]]

    def add(self, fault: Fault | str, **fields: Any) -> None:
        """Set a fault: `add(Fault(...))`, or `add("throttled", method="PUT", path="/jobs/")`."""
        with self._lock:
            self._faults.append(Fault(fault, **fields) if isinstance(fault, str) else fault)
            self._keep()

    def set(self, faults: list[Fault]) -> None:
        """Replace all faults."""
        with self._lock:
            self._faults = list(faults)
            self._keep()

    def clear(self, name: str | None = None) -> None:
        """Remove the faults of a name, or all."""
        with self._lock:
            self._faults = [fault for fault in self._faults if name is not None and fault.name != name]
            self._keep()

    def list(self) -> list[dict[str, Any]]:
        """The faults that are left, as JSON."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]

    def take(self, name: str, **context: Any) -> Fault | None:
        """The fault if it strikes at this moment, which is then counted; None otherwise."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.name != name or fault.times == 0 or not fault.fits(context):
                    continue
                if fault.after > 0:
                    self._faults[index] = replace(fault, after=fault.after - 1)
                    self._keep()
                    continue
                if fault.times > 0:
                    self._faults[index] = replace(fault, times=fault.times - 1)
                    self._keep()
                return fault
        return None

    def active(self, name: str, **context: Any) -> Fault | None:
        """The fault if it would strike now; counts nothing. For a condition that lasts."""
        with self._lock:
            for fault in self._faults:
                if fault.name == name and fault.times != 0 and fault.after == 0 and fault.fits(context):
                    return fault
        return None

    def _keep(self) -> None:
        self._state.put("faults", "faults", {"faults": [asdict(fault) for fault in self._faults]})
