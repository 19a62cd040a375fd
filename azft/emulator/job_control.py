"""What is asked of a running job from outside: that it ends, because of a cancel or because the emulator stops."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

_TICK = 0.02
"""Seconds between two looks at the clock, which a test may move at any time."""


class JobStopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The job does not go on. `canceled` tells a cancel from the end of the emulator, after which it starts again."""

    def __init__(self, *, canceled: bool) -> None:
        super().__init__("canceled" if canceled else "stopped")
        self.canceled = canceled


class JobControl:
    """Asked by the threads that carry a job out."""

    def __init__(self, emu: Emulator) -> None:
        self._emu = emu
        self._cancel = threading.Event()

    def cancel(self) -> None:
        """Ask for the end."""
        self._cancel.set()

    def reason(self) -> str | None:
        """Why to stop, if so; in the form that `execution.processes` asks for."""
        if self._cancel.is_set():
            return "canceled"
        return "stopped" if self._emu.stopping.is_set() else None

    def check(self) -> None:
        """Raise `JobStopped` when the job shall not go on."""
        reason = self.reason()
        if reason is not None:
            raise JobStopped(canceled=reason == "canceled")

    def wait_until(self, moment: float) -> None:
        """Return when the emulator's clock has reached `moment`; raise `JobStopped` when asked to end before."""
        self.check()
        while self._emu.clock.now() < moment:
            self._cancel.wait(_TICK)
            self.check()
