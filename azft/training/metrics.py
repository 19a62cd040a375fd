"""The run's numbers as they happen: metrics.jsonl, lines on stdout, and a mirror in MLflow if there is one.

After a resume the file holds every step once: lines beyond the checkpoint are taken out before training goes on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from azft.files import append_line, read_lines, write_bytes
from azft.training.tracking import Mirror

FILE = "metrics.jsonl"


class Metrics:
    """Writes the numbers of one run; silent on ranks other than the first."""

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.path = folder / FILE
        self.enabled = enabled
        self.mirror = Mirror.from_environment() if enabled else None
        if enabled:
            folder.mkdir(parents=True, exist_ok=True)

    def resume_after(self, step: int) -> None:
        """Take out the lines of later steps, and end a line that a crash tore."""
        if not self.enabled or not self.path.exists():
            return
        lines, _ = read_lines(self.path)
        kept = [line for line in lines if isinstance(line, dict) and line.get("step", 0) <= step]
        write_bytes(self.path, b"".join(orjson.dumps(line) + b"\n" for line in kept))

    def log(self, values: Mapping[str, Any]) -> None:
        """Append one line (with the time, in seconds since 1970) and mirror its numbers. Needs a `step`."""
        if not self.enabled:
            return
        append_line(self.path, {**values, "time": round(time.time(), 3)})
        if self.mirror:
            step = int(values["step"])
            self.mirror.log(
                {k: float(v) for k, v in values.items() if isinstance(v, int | float) and k != "step"}, step
            )

    def say(self, text: str) -> None:
        """A plain line for the step's log."""
        if self.enabled:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def flush(self) -> None:
        """Make what was logged durable; called before each checkpoint, which must not be newer than its metrics."""
        if self.enabled and self.path.exists():
            with self.path.open("rb+") as file:
                os.fsync(file.fileno())

    def close(self) -> None:
        """Wait, briefly, for the mirror."""
        if self.mirror:
            self.mirror.close()


def duration(seconds: float) -> str:
    """`1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
