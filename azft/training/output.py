"""Filling a step's output folder so that it is either finished, which its last file says, or to be filled again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from azft.files import fsync_folder


@contextmanager
def output_folder(target: Path, *, last: str) -> Iterator[Path]:
    """Yield an empty folder whose entries become those of `target` when the block ends well, `last` after all others.

    Azure ML mounts a folder for each output, which can't be renamed over; so entries are moved in one by one. What an
    earlier attempt left in `target` is removed, its `last` first.
    """
    target.mkdir(parents=True, exist_ok=True)
    writing = target / ".writing"
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir()
    try:
        yield writing
        if not (writing / last).is_file():
            raise RuntimeError(f"{last} was not written")
        for file in writing.rglob("*"):
            if file.is_file():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
        for entry in sorted(target.iterdir(), key=lambda entry: entry.name != last):
            if entry != writing:
                _remove(entry)
        for entry in sorted(writing.iterdir(), key=lambda entry: (entry.name == last, entry.name)):
            entry.replace(target / entry.name)
        fsync_folder(target)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
