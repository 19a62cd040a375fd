"""Running one command under its guard: wait, pass on what it logs, and end all of it when asked to.

The guard (guard.py) owns the command's processes and its log file; this side only watches and asks.
"""

from __future__ import annotations

import contextlib
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType

_GUARD = Path(__file__).with_name("guard.py")
_TICK = 0.1  # seconds between two looks at logs, metrics and requests to stop


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The command was ended on request; `reason` says whose."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class LogFollower:
    """Hands on the whole lines that are appended to a text file, once each."""

    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        self.path = path
        self.on_line = on_line
        self.offset = path.stat().st_size if path.exists() else 0

    def poll(self, *, final: bool = False) -> None:
        """Hand on what is new; with `final`, a last line without its newline too."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read()
        except FileNotFoundError:
            return
        end = len(data) if final else data.rfind(b"\n") + 1
        self.offset += end
        for line in data[:end].decode("utf-8", "replace").splitlines():
            self.on_line(line)


def run_guarded(
    command: list[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    grace: float,
    tick: Callable[[], str | None],
) -> int:
    """Run `command` in `folder` until it ends, its output appended to `log`. Returns its exit status (128 + signal).

    `tick` is called about ten times a second and may return a reason to stop. Ctrl-C and SIGTERM stop it too: gently
    the first time (`grace` seconds, in which training saves a checkpoint), at once the second. Then `Stopped` is
    raised, when no process of the command is left.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_GUARD), str(log), str(grace), *command],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,  # never written to: it closes when the guard ends, which wakes us
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C at the terminal reaches us alone, and we decide
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    reason = ""

    def ask(request: bytes) -> None:
        with contextlib.suppress(OSError):
            guard.stdin.write(request)  # type: ignore[union-attr]
            guard.stdin.flush()  # type: ignore[union-attr]

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal reason
        ask(b"K" if reason else b"T")
        reason = reason or ("interrupted" if number == signal.SIGINT else "terminated")

    try:
        with _signals(on_signal):
            trouble = b""
            while True:
                readable, _, _ = select.select([guard.stdout], [], [], _TICK)
                if readable:
                    data = guard.stdout.read1(4096)  # type: ignore[attr-defined]
                    trouble += data
                    if not data:
                        break
                wanted = tick()
                if wanted and not reason:
                    reason = wanted
                    ask(b"T")
            status = guard.wait()
    finally:
        # Only when tick() raised: the guard sees its pipe close and ends the command.
        with contextlib.suppress(OSError):
            guard.stdin.close()
        guard.wait()
        guard.stdout.close()
    if trouble:
        with log.open("ab") as file:
            file.write(trouble)
    tick()
    if reason:
        raise Stopped(reason)
    return status


@contextlib.contextmanager
def _signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle Ctrl-C and SIGTERM in the block; only the main thread may, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
