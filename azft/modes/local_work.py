"""Carrying out a run on this machine, from plan to outputs, in the process that holds the run's lock."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from azft.catalog import materialize
from azft.catalog.folder import cached_sha256
from azft.errors import AzftError, InterruptedRunError, JobFailedError, StalePlanError
from azft.execution.processes import Stopped
from azft.execution.runner import Options, run_graph
from azft.files import canonical_json, sha256_bytes, write_json
from azft.modes.base import OnEvent, ignore
from azft.modes.local_graph import read_pipeline
from azft.pipeline import build_pipeline, write_parameters
from azft.plan import Plan
from azft.runs import Run, RunState, RunStore
from azft.runs.environment import describe_environment
from azft.staging import stage_code

_NOT_RECORDED = {"log", "metrics"}
"""Events that have a file of their own."""
_METRICS = {"finetune": ("metrics", "metrics.jsonl")}


def carry_out(run: Run, plan: Plan, store: RunStore, *, force: bool, on_event: OnEvent) -> None:
    """Run the plan's pipeline in the run's folder and record how it went.

    Raises what ended it: `JobFailedError`, `InterruptedRunError`, another `AzftError` before the first step, or what
    `on_event` raised. The state is recorded first, so that it is right even when nobody catches that.
    """
    attempt = run.recorded_status().attempt + 1
    run.set_state(RunState.PREPARING, attempt=attempt)
    run.forget_cancel()
    work = _Work(run, attempt, on_event)
    try:
        work.tell({"event": "run-started", "run": run.name, "attempt": attempt, "folder": str(run.folder)})
        outputs = work.run(plan, store, force=force)
        run.set_state(RunState.COMPLETED, attempt=attempt)
        names = {name: str(path) for name, path in outputs.items()}
        work.tell({"event": "run-finished", "run": run.name, "state": str(RunState.COMPLETED), "outputs": names})
    except _ListenerError as raised:
        if run.recorded_status().state is not RunState.COMPLETED:
            work.stopped(f"interrupted: on_event raised {type(raised.error).__name__}: {raised.error}")
        raise raised.error from None
    except (Stopped, KeyboardInterrupt) as stop:
        raise work.stopped(stop.reason if isinstance(stop, Stopped) else "interrupted") from None
    except AzftError as error:
        work.ended(RunState.FAILED, error.message, error.fix)
        raise
    except OSError as error:
        message = f"Run {run.name} could not go on: {error.strerror or error}{_at(error)}."
        fix = f"When that is mended, go on with: azft resume {run.name}"
        work.ended(RunState.FAILED, message, fix)
        raise JobFailedError(message, fix=fix) from error
    except BaseException as error:
        work.ended(RunState.FAILED, f"azft itself failed: {type(error).__name__}: {error}", "Please report it.")
        raise


class _ListenerError(Exception):
    """Something that a caller's `on_event` raised, which is no fault of the run."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Work:
    def __init__(self, run: Run, attempt: int, on_event: OnEvent) -> None:
        self.run_record = run
        self.attempt = attempt
        self.on_event = on_event
        self.step: str | None = None

    def run(self, plan: Plan, store: RunStore, *, force: bool) -> dict[str, Path]:
        folder = self.run_record.folder
        write_json(folder / "environment.json", describe_environment(plan.recipe_path.parent))
        code = stage_code(store.code)
        if code.hash != plan.code_hash:
            raise StalePlanError("azft's code changed since the plan was made.", fix="Submit the recipe again.")
        write_parameters(plan, folder / "parameters")
        self.tell({"event": "model", "description": plan.model.description})
        job = build_pipeline(
            plan,
            code=code.folder,
            parameters=folder / "parameters",
            model=materialize(plan.model),
            name=self.run_record.name,
        )
        options = Options(
            cache=store.cache,
            force=force,
            metrics=_METRICS,
            should_stop=lambda: "canceled" if self.run_record.cancel_requested() else None,
            content_hash=_content_hash,
        )
        return run_graph(read_pipeline(job), folder, self.tell, options)

    def tell(self, event: dict[str, Any]) -> None:
        """Record an event, keep the state's step, and pass it on."""
        kind = event["event"]
        if kind == "step-started":
            self.step = event["step"]
            self.run_record.set_state(RunState.RUNNING, step=self.step, attempt=self.attempt)
        known = event if kind in _NOT_RECORDED else self.run_record.add_event(event)
        try:
            self.on_event(known)
        except Exception as error:
            self.on_event = ignore
            raise _ListenerError(error) from error

    def ended(self, state: RunState, message: str, fix: str) -> None:
        """Record how it ended; when even that can't be written, the freed lock still says that nobody is at work."""
        with contextlib.suppress(OSError):
            self.run_record.set_state(state, step=self.step, message=message, fix=fix, attempt=self.attempt)
            name = self.run_record.name
            self.tell({"event": "run-finished", "run": name, "state": str(state), "message": message, "fix": fix})

    def stopped(self, reason: str) -> AzftError:
        """Record a stop on request, and the error to raise for it."""
        name = self.run_record.name
        fix = f"Go on from the last checkpoint with: azft resume {name}"
        if reason == "canceled":
            message = f"Run {name} was canceled."
            self.ended(RunState.CANCELED, message, fix)
            return JobFailedError(message, fix=fix)
        message = f"Run {name} was {reason}."
        self.ended(RunState.INTERRUPTED, message, fix)
        return InterruptedRunError(message, fix=fix)


def _at(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""


def _content_hash(path: Path) -> str:
    """Hash of a file or folder; large files' hashes are remembered, because a model has gigabytes."""
    if path.is_file():
        return cached_sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return sha256_bytes(canonical_json({file.relative_to(path).as_posix(): cached_sha256(file) for file in files}))
