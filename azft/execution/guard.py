"""Stands between the runner and a step's command, so that no process of a step outlives it. Run as a script.

It writes the command's output, redacted, to the log; it ends the command and all that the command started when the
runner asks for it, or is gone: a runner that was killed can't clean up, but the pipe that it held closes. What it does
not do: decide anything. Standard library only, because it starts once a step.

    python guard.py <log file> <seconds of grace> <command> [<argument> ...]

Standard input: end of file or `T` ends the command gently (SIGTERM, then SIGKILL after the grace), `K` at once.
Exit status: the command's, 128 + n when signal n ended it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_LONGEST_LINE = 1 << 16
_GRACE_FOR_LEFTOVERS = 2.0  # seconds, for what a finished command left running


def main(arguments: list[str]) -> int:
    """Run the command; see the module's docstring."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from azft.redact import Redactor

    log, grace, command = Path(arguments[0]), float(arguments[1]), arguments[2:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the pipe alone says when to end
    _adopt_orphans()
    with log.open("ab", buffering=0) as file:
        return _Guard(file.write, Redactor(), grace).run(command)


def _adopt_orphans() -> None:
    """On Linux, processes whose parent died become ours, so that `waitpid` sees all that the command ever started."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class _Guard:
    def __init__(self, write: Callable[[bytes], object], redact: Callable[[str], str], grace: float) -> None:
        self.write = write
        self.redact = redact
        self.grace = grace
        self.pending = b""
        self.status: int | None = None

    def run(self, command: list[str]) -> int:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            restore_signals=True,
            preexec_fn=_default_signals,  # noqa: PLW1509 - there is one thread here
        )
        assert child.stdout is not None
        output = child.stdout.fileno()
        os.set_blocking(output, False)
        selector = selectors.DefaultSelector()
        selector.register(0, selectors.EVENT_READ)
        selector.register(output, selectors.EVENT_READ)
        selector.register(wake_read, selectors.EVENT_READ)
        deadline: float | None = None
        killed = False
        while True:
            for key, _ in selector.select(0.1 if deadline is not None else 1.0):
                if key.fd == wake_read:
                    os.read(wake_read, 4096)
                elif key.fd == output:
                    if self.pump(output):
                        selector.unregister(output)
                else:
                    request = os.read(0, 1)
                    if not request:
                        selector.unregister(0)
                    if request == b"K":
                        deadline = 0.0
                    elif deadline is None:
                        _signal_group(child.pid, signal.SIGTERM)
                        deadline = time.monotonic() + self.grace
            alone = self.reap(child.pid)
            if alone:
                self.pump(output)
                self.flush()
                return 1 if self.status is None else self.status
            if self.status is not None and deadline is None:
                _signal_all(signal.SIGTERM)
                deadline = time.monotonic() + _GRACE_FOR_LEFTOVERS
            if deadline is not None and time.monotonic() >= deadline:
                _signal_group(child.pid, signal.SIGKILL)
                _signal_all(signal.SIGKILL)
                if killed and self.status is None and sys.platform != "linux":
                    return 128 + signal.SIGKILL
                killed = True

    def reap(self, child: int) -> bool:
        """Collect what ended. True when nothing is left of the command."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                self.status = code if code >= 0 else 128 - code

    def pump(self, output: int) -> bool:
        """Move what the command wrote to the log, whole lines at a time. True at its end."""
        while True:
            try:
                data = os.read(output, 1 << 16)
            except BlockingIOError:
                return False
            if not data:
                return True
            lines, newline, rest = (self.pending + data).rpartition(b"\n")
            if newline:
                self.emit(lines + newline)
            self.pending = rest
            if len(self.pending) > _LONGEST_LINE:
                self.flush()

    def flush(self) -> None:
        if self.pending:
            self.emit(self.pending + b"\n")
            self.pending = b""

    def emit(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk must not stop the command through its log
            self.write(self.redact(data.decode("utf-8", "replace")).encode("utf-8"))


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _signal_all(number: int) -> None:
    """Signal every descendant, whichever group or session it moved to (torchrun's ranks have their own)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # pid (name) state ppid ...; the name may hold spaces and brackets
            text = entry.read_text(encoding="utf-8", errors="replace")
            children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(entry.parent.name))
    waiting = list(children.get(os.getpid(), []))
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
