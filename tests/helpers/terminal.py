"""Runs `azft` as a child process, with or without a terminal, as a person or a CI job would."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'azft'; from azft.cli.main import main; main()"]


@dataclass(frozen=True)
class Result:
    """What a command left behind. With a terminal, `out` has both streams, as a screen would."""

    code: int
    out: str
    err: str = ""

    @property
    def plain(self) -> str:
        """`out` without escape sequences and carriage returns."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.out).replace("\r", "")


def environment(**changes: str | None) -> dict[str, str]:
    """This process's environment with the package findable; None removes a variable."""
    merged = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    for name in ("COLUMNS", "LINES", "AZFT_OUTPUT"):
        merged.pop(name, None)
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged


def azft(*args: str, cwd: Path | None = None, stdin: str | None = None, **env: str | None) -> Result:
    """Run a command without a terminal."""
    done = subprocess.run(
        [*COMMAND, *args],
        cwd=cwd,
        env=environment(**env),
        input=None if stdin is None else stdin.encode(),
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def azft_at_terminal(
    *args: str, cwd: Path | None = None, columns: int = 80, typed: str = "", **env: str | None
) -> Result:
    """Run azft at a terminal of `columns` columns; `typed` is what the person types."""
    return at_terminal([*COMMAND, *args], cwd=cwd, columns=columns, typed=typed, **env)


def at_terminal(
    command: list[str], *, cwd: Path | None = None, columns: int = 80, typed: str = "", **env: str | None
) -> Result:
    """Run any command at a terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(**{"NO_COLOR": None, **env}),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    if typed:
        os.write(master, typed.encode())
    screen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux's way of saying that the other side is closed
            break
        if not piece:
            break
        screen += piece
    os.close(master)
    return Result(process.wait(timeout=60), screen.decode("utf-8", "replace"))
