"""Why a step failed, guessed from its exit status and last lines: a table of what is seen most, and what to do.

A guess is worded as one. Without a match the last lines speak for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """What probably happened, and what to do."""

    what: str
    fix: str


_OWN = re.compile(r"^(?:\[rank\d+\]:\s*)?azft\.[\w.]*Error: (.+)")
"""Our own errors say it best: what happened, and on the next line what to do."""
_TRACEBACK = re.compile(r"^(?:\[rank\d+\]:\s*)?Traceback \(most recent call last\)")
_NOISE = re.compile(r"^\s*$|^\[|^[EWI]\d{4} |^Traceback|^=+|^-+")
_TABLE: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"CUDA out of memory|CUDA error: out of memory|OutOfMemoryError"),
        "The GPU ran out of memory.",
        "Lower training.max_length or training.micro_batch_size, or set training.gradient_checkpointing: true.",
    ),
    (
        re.compile(r"DefaultCPUAllocator: can't allocate|Cannot allocate memory|^MemoryError|std::bad_alloc"),
        "The machine ran out of memory.",
        "Lower training.max_length or training.micro_batch_size, or take a smaller model.",
    ),
    (
        re.compile(r"No space left on device|Disk quota exceeded"),
        "The disk is full.",
        "Make room, or lower training.save_total_limit; then go on with: azft resume",
    ),
    (
        re.compile(r"ModuleNotFoundError: No module named '(?!azft\b)([^'.]+)"),
        "The Python package `{0}` is not installed.",
        "Install what local training needs: pip install 'azft[train]'",
    ),
    (
        re.compile(r"CUDA driver version is insufficient|no kernel image is available|Torch not compiled with CUDA"),
        "The installed torch does not fit this machine's GPU or driver.",
        "Install a torch build for it, or run on the CPU with CUDA_VISIBLE_DEVICES= (empty).",
    ),
    (
        re.compile(r"(?i)loss (?:is|became|was) (?:nan|inf|not finite)|non-?finite (?:loss|gradient)"),
        "The loss is no longer a finite number.",
        "Lower training.learning_rate, raise training.warmup_ratio, or set training.precision: fp32.",
    ),
    (
        re.compile(r"Address already in use|EADDRINUSE|RendezvousConnectionError|Connection refused"),
        "The ranks could not find each other.",
        "See whether another run holds the port, then try again.",
    ),
    (
        re.compile(r"Permission denied: '?([^'\n]+)"),
        "No permission for {0}.",
        "Check who owns it.",
    ),
)  # fmt: skip


def telling(lines: Sequence[str]) -> list[str]:
    """The lines without the traceback of an error of our own: `likely_cause` says all that it holds for a reader."""
    own = next((number for number in reversed(range(len(lines))) if _OWN.match(lines[number])), None)
    if own is None:
        return list(lines)
    begins = next((number for number in reversed(range(own)) if _TRACEBACK.match(lines[number])), None)
    if begins is None:
        return list(lines)
    has_fix = own + 1 < len(lines) and not _NOISE.match(lines[own + 1])
    return [*lines[:begins], *lines[own + 1 + has_fix :]]


def likely_cause(status: int, lines: Sequence[str]) -> Cause | None:
    """The likely cause of an exit status and the last lines of a log; None when nothing known matches."""
    for number in reversed(range(len(lines))):  # the last error is the one that ended it
        line = lines[number]
        if match := _OWN.match(line):
            following = lines[number + 1] if number + 1 < len(lines) else ""
            return Cause(match.group(1), "" if _NOISE.match(following) else following.strip())
        for pattern, what, fix in _TABLE:
            if match := pattern.search(line):
                return Cause(what.format(*match.groups()), fix)
    if status == 137:
        return Cause(
            "It was killed by signal 9, most likely because the machine ran out of memory.",
            "Lower training.max_length or training.micro_batch_size, take a smaller model, or close other programs.",
        )
    if status == 139:
        return Cause("It crashed in native code (segmentation fault).", "Check that torch fits this machine.")
    if status == 127:
        return Cause("A program that the command names was not found.", "See the last line.")
    return None
