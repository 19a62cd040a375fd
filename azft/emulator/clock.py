"""The emulator's own time. States of jobs and resources are functions of it, so a test moves them without waiting."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from azft.emulator.state import State


class Clock:
    """The machine's time plus what was added, or, when manual, a time that only `advance` moves. Kept in the state."""

    def __init__(self, state: State, *, manual: bool = False) -> None:
        self._state = state
        self._lock = threading.Lock()
        kept = state.get("clock", "clock")
        if kept is None:
            kept = {"manual": manual, "offset": 0.0, "time": time.time()}
        self._manual, self._offset, self._time = bool(kept["manual"]), float(kept["offset"]), float(kept["time"])

    @property
    def manual(self) -> bool:
        """Whether time stands still unless it is advanced."""
        return self._manual

    @manual.setter
    def manual(self, value: bool) -> None:
        with self._lock:
            now = self._read()
            self._manual, self._time, self._offset = value, now, now - time.time()
            self._keep()

    def now(self) -> float:
        """Seconds since 1970, in the emulator's time."""
        with self._lock:
            return self._read()

    def advance(self, seconds: float) -> float:
        """Move on by so many seconds; returns the new time."""
        with self._lock:
            self._offset += seconds
            self._time += seconds
            self._keep()
            return self._read()

    def timestamp(self, at: float | None = None) -> str:
        """A time (now, if None) as Azure writes it."""
        moment = datetime.fromtimestamp(self.now() if at is None else at, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%f0Z")

    def _read(self) -> float:
        return self._time if self._manual else time.time() + self._offset

    def _keep(self) -> None:
        self._state.put("clock", "clock", {"manual": self._manual, "offset": self._offset, "time": self._time})
