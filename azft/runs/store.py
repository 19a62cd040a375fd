"""All runs of a folder: `.azft/`, where they are made, found and listed.

    runs/<name>/    one folder a run (record.py)
    code/<hash>/    staged code folders
    cache/          finished steps, by their keys

`AZFT_HOME` moves it. It may be deleted as a whole when nothing runs.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from azft.errors import NotFoundError, UsageError
from azft.files import atomic_path, write_json, write_text
from azft.runs.record import Run, RunState, Status, now


class RunStore:
    """The runs under one `.azft` folder."""

    def __init__(self, root: Path | None = None) -> None:
        """`root` is the `.azft` folder; by default that of AZFT_HOME, else of the current folder."""
        self.root = (root or Path(os.environ.get("AZFT_HOME") or ".azft")).absolute()

    @property
    def runs_folder(self) -> Path:
        """Where the runs' folders lie."""
        return self.root / "runs"

    @property
    def code(self) -> Path:
        """Where staged code folders lie."""
        return self.root / "code"

    @property
    def cache(self) -> Path:
        """Where finished steps are recorded."""
        return self.root / "cache"

    def create(
        self, name: str, *, plan: dict[str, Any], recipe: dict[str, Any], azure: dict[str, Any] | None = None
    ) -> Run:
        """Make a run's folder, whole or not at all. The name must be free: hold `naming` meanwhile.

        `azure` says where in Azure it will run, if it will.
        """
        self._prepare()
        with atomic_path(self.runs_folder / name) as folder:
            folder.mkdir()
            write_json(folder / "plan.json", plan)
            write_json(folder / "recipe.json", recipe)
            if azure is not None:
                write_json(folder / "azure.json", azure)
            write_json(folder / "state.json", Status(RunState.QUEUED, now()).to_dict())
        return Run(self.runs_folder / name)

    def find(self, name: str) -> Run | None:
        """The run of this name, or None."""
        folder = self.runs_folder / name
        return Run(folder) if name and Path(name).name == name and (folder / "plan.json").is_file() else None

    def latest(self, name: str, plan_hash: str) -> tuple[Run | None, str]:
        """The newest run of the plan whose first run has this name (NAME, NAME-2, ...), and the next name that is free.

        Raises `UsageError` when one of the names is another plan's. Hold `naming` meanwhile.
        """
        latest: Run | None = None
        number, free = 1, name
        while run := self.find(free):
            if run.plan["hash"] != plan_hash:
                raise UsageError(f"{run.folder} holds another plan's run.", fix="Rename the recipe, or move that run.")
            latest, number = run, number + 1
            free = f"{name}-{number}"
        return latest, free

    def get(self, name: str) -> Run:
        """The run of this name, or of the only one that starts with it. Raises `NotFoundError` with what there is."""
        if run := self.find(name):
            return run
        names = [run.name for run in self.list()]
        starting = [other for other in names if name and other.startswith(name)]
        if len(starting) == 1:
            return Run(self.runs_folder / starting[0])
        if starting:
            raise NotFoundError(f"Several runs start with `{name}`: {', '.join(starting)}.", fix="Give the whole name.")
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
        fix = f"Did you mean `{near[0]}`?" if near else "See which there are: azft runs"
        raise NotFoundError(f"There is no run `{name}` in {self.runs_folder}.", fix=fix)

    def list(self) -> list[Run]:
        """All runs, newest first."""
        if not self.runs_folder.is_dir():
            return []
        folders = [
            path
            for path in self.runs_folder.iterdir()
            if not path.name.startswith(".") and (path / "plan.json").is_file()
        ]
        return [
            Run(path)
            for path in sorted(folders, key=lambda path: (path / "plan.json").stat().st_mtime_ns, reverse=True)
        ]

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Held while a name is looked up and its folder made, so that two shells at once make one run."""
        self._prepare()
        with FileLock(self.root / "naming.lock"):
            yield

    def _prepare(self) -> None:
        self.runs_folder.mkdir(parents=True, exist_ok=True)
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            write_text(ignore, "*\n")
