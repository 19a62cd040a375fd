"""What every mode can do. The commands and the Python API know a mode only by these methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from azft.errors import NotFoundError
from azft.plan import Plan
from azft.recipe_file import RecipeFile
from azft.runs import Run, Status

OnEvent = Callable[[dict[str, Any]], None]
"""Gets each event as it happens: {"event": ..., "step": ...}, and log lines and metrics in the same shape."""


class Mode(Protocol):
    """A place where plans run."""

    name: str

    def plan(self, recipe_file: RecipeFile) -> Plan:
        """Resolve a recipe to exactly what will run; findings are in the plan and don't raise."""
        ...

    def submit(
        self,
        plan: Plan,
        *,
        again: bool = False,
        force: bool = False,
        wait: bool = True,
        on_event: OnEvent | None = None,
    ) -> Run:
        """Carry out a plan, once: a run that is there already is adopted, and continued when it was cut off.

        `again` asks for another run of the same plan; `force` reuses no step of earlier ones; without `wait` it returns
        as soon as the run has started. Raises `FindingsError` and `StalePlanError` before, `JobFailedError` and
        `InterruptedRunError` after.
        """
        ...

    def resume(self, run: Run, *, wait: bool = True, on_event: OnEvent | None = None) -> Run:
        """Go on with a run that failed, was canceled or was cut off, from its last checkpoint."""
        ...

    def refresh(self, run: Run) -> None:
        """Bring the run's record up to date from where it runs; nothing to do on this machine.

        Raises `UnreachableError` when that place does not answer; the record then stays as it was.
        """
        ...

    def status(self, run: Run) -> Status:
        """What the run is doing."""
        ...

    def logs(self, run: Run, step: str, offset: int = 0) -> tuple[list[str], int]:
        """Whole lines of a step's log from an offset on, and the offset to ask from next."""
        ...

    def cancel(self, run: Run) -> None:
        """End the run. Returns when that is asked for, not when it is done."""
        ...

    def outputs(self, run: Run) -> dict[str, Path]:
        """What came out, by name."""
        ...


def read_plan(run: Run) -> Plan:
    """The plan of a run. Raises `AzftError` when another version of azft wrote it."""
    try:
        return Plan.from_json((run.folder / "plan.json").read_bytes())
    except (OSError, ValueError) as error:
        what = f"The plan of run {run.name} can't be read: {str(error).splitlines()[0]}."
        raise NotFoundError(what, fix="Submit the recipe again with this version of azft.") from None


def ignore(_event: dict[str, Any]) -> None:
    """For callers who don't want events."""
