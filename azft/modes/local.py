"""Local mode: the PipelineJob that would go to Azure, run on this machine by `azft.execution`.

One run per plan, whoever submits it how often and from where: the run's lock decides who carries it out, everybody else
follows it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import azft
from azft import host_memory
from azft.catalog import ResolvedModel
from azft.errors import AzftError, InterruptedRunError, JobFailedError, UsageError
from azft.extras import EXTRAS, METRIC_PACKAGES
from azft.findings import Finding, Severity
from azft.modes.base import OnEvent, ignore, read_plan
from azft.modes.local_work import carry_out
from azft.plan import Plan, make_plan
from azft.plan_checks import require_fresh, require_no_errors
from azft.recipe_file import RecipeFile
from azft.runs import Run, RunState, RunStore, Status
from azft.targets.loading import Node, known_weights, too_small

_START_PATIENCE = 60.0
"""Seconds that a detached runner has to take over its run."""


class LocalMode:
    """This machine."""

    name = "local"

    def __init__(self, root: Path | None = None, access: object = None) -> None:  # noqa: ARG002 - as other modes
        """`root` is the `.azft` folder; by default the current folder's. Nothing here needs `access` to Azure."""
        self.store = RunStore(root)

    def plan(self, recipe_file: RecipeFile) -> Plan:
        """See `Mode.plan`."""
        processes = recipe_file.recipe.modes.local.processes

        def findings(model: ResolvedModel | None) -> Iterator[Finding]:
            yield from _machine_findings(recipe_file, processes)
            yield from _memory_findings(recipe_file, processes, model)

        return make_plan(recipe_file, self.name, processes=processes, findings=findings)

    def submit(
        self,
        plan: Plan,
        *,
        again: bool = False,
        force: bool = False,
        wait: bool = True,
        on_event: OnEvent | None = None,
    ) -> Run:
        """See `Mode.submit`. With `force` a completed run is left alone and another one made."""
        if plan.mode != self.name:
            raise UsageError(f"The plan {plan.run_name} was made for mode {plan.mode}, not {self.name}.")
        require_no_errors(plan)
        require_fresh(plan)
        run = self._claim(plan, again=again, force=force)
        return self._run(run, force=force, wait=wait, on_event=on_event or ignore)

    def resume(self, run: Run, *, wait: bool = True, on_event: OnEvent | None = None) -> Run:
        """See `Mode.resume`. The run keeps its own recipe; data, model and code must be what they were."""
        if run.state is not RunState.COMPLETED:
            require_fresh(read_plan(run), recipe=False)
        return self._run(run, force=False, wait=wait, on_event=on_event or ignore)

    def refresh(self, run: Run) -> None:
        """See `Mode.refresh`: the record is the run's own, always up to date."""

    def status(self, run: Run) -> Status:
        """See `Mode.status`."""
        return run.status()

    def logs(self, run: Run, step: str, offset: int = 0) -> tuple[list[str], int]:
        """See `Mode.logs`."""
        return run.log(step, offset)

    def cancel(self, run: Run) -> None:
        """See `Mode.cancel`. A run that no process carries out yet is canceled at once."""
        run.cancel()
        with run.hold() as held:
            if held and run.state is RunState.QUEUED:
                run.set_state(RunState.CANCELED, message="Canceled before it started.")

    def outputs(self, run: Run) -> dict[str, Path]:
        """See `Mode.outputs`."""
        return run.outputs()

    def _claim(self, plan: Plan, *, again: bool, force: bool) -> Run:
        """The run of a plan: the latest that is there, or a new one."""
        with self.store.naming():
            latest, name = self.store.latest(plan.run_name, plan.hash)
            if latest is not None and not again and not (force and latest.state is RunState.COMPLETED):
                return latest
            return self.store.create(name, plan=plan.model_dump(mode="json"), recipe=plan.recipe)

    def _run(self, run: Run, *, force: bool, wait: bool, on_event: OnEvent) -> Run:
        """Carry a run out, or follow whoever does."""
        if run.state is RunState.COMPLETED:
            on_event(
                {"event": "run-adopted", "run": run.name, "state": str(RunState.COMPLETED), "folder": str(run.folder)}
            )
            return run
        if not wait:
            _start_detached(run, force=force)
            return run
        with run.hold() as held:
            if held and run.recorded_status().state is not RunState.COMPLETED:
                carry_out(run, read_plan(run), self.store, force=force, on_event=on_event)
                return run
        return _follow(run, on_event)


def _follow(run: Run, on_event: OnEvent) -> Run:
    on_event({"event": "run-adopted", "run": run.name, "state": str(run.state), "folder": str(run.folder)})
    try:
        status = run.wait(on_event)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"Stopped watching; run {run.name} goes on.",
            fix=f"Watch again: azft logs {run.name} --follow\nEnd it: azft cancel {run.name}",
        ) from None
    if status.state is RunState.INTERRUPTED:
        raise InterruptedRunError(status.message or f"Run {run.name} was interrupted.", fix=status.fix)
    if status.state is not RunState.COMPLETED:
        raise JobFailedError(status.message or f"Run {run.name} ended as {status.state}.", fix=status.fix)
    return run


def _start_detached(run: Run, *, force: bool) -> None:
    """Start a process of its own session that carries the run out, and return when it has taken it over."""
    if run.is_held():
        return
    attempt = run.recorded_status().attempt
    log = run.folder / "logs" / "runner.txt"
    log.parent.mkdir(exist_ok=True)
    search = [str(Path(azft.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "azft.modes.local_runner", str(run.folder), *(["--force"] if force else [])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))},
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_PATIENCE
    while time.monotonic() < deadline:
        # Another shell may have been faster: then the run is held, and this runner ends by itself.
        if run.recorded_status().attempt > attempt or process.poll() is not None:
            break
        time.sleep(0.05)
    if run.recorded_status().attempt == attempt and not run.is_held():
        process.terminate()
        raise AzftError(f"The process for run {run.name} did not start.", fix=f"Its output: {log}")


def _machine_findings(recipe_file: RecipeFile, processes: int) -> Iterator[Finding]:
    if os.name != "posix":
        yield Finding(
            "local-not-posix",
            Severity.ERROR,
            "Local mode needs Linux or macOS (steps are shell commands, as on Azure's nodes).",
            "On Windows, run azft inside WSL.",
        )
    elif shutil.which("bash") is None:
        yield Finding("local-no-bash", Severity.ERROR, "Local mode runs steps with `bash`, which is not on PATH.")
    needed = [("torch", "torch", "train"), ("transformers", "transformers", "train"), ("azure", "azure-ai-ml", "azure")]
    for extra in (recipe_file.recipe.technique.needs, recipe_file.recipe.distribution.needs):
        if extra is not None:
            needed += [(package, package, extra) for package in EXTRAS[extra][1]]
    needed += [
        (*METRIC_PACKAGES[metric], "train") for metric in recipe_file.recipe.measures if metric in METRIC_PACKAGES
    ]
    for module, package, extra in dict.fromkeys(needed):
        if importlib.util.find_spec(module) is None:
            fix = f"Install it with: pip install 'azft[{extra}]'"
            yield Finding("local-not-installed", Severity.ERROR, f"Local mode needs the package `{package}`.", fix)
    cores = os.cpu_count() or 1
    if processes > cores:
        yield Finding(
            "local-many-processes",
            Severity.WARNING,
            f"modes.local.processes is {processes}, and there are {cores} cores: the ranks will wait for each other.",
            file=str(recipe_file.path),
            line=recipe_file.line_of("modes", "local", "processes"),
        )


def _memory_findings(recipe_file: RecipeFile, processes: int, model: ResolvedModel | None) -> Iterator[Finding]:
    """A warning where this machine's memory can't hold what loading takes; no error, because it may have swap."""
    recipe, memory = recipe_file.recipe, host_memory.total()
    if model is None or model.path is None or memory is None:
        return
    precision = "bf16" if recipe.training.precision == "auto" else recipe.training.precision
    gpus = shutil.which("nvidia-smi") is not None
    node = Node("this machine", memory, processes, processes, gpus, precision)
    problem = too_small(recipe, node, known_weights(model.path, None))
    if problem is not None:
        line = recipe_file.line_of("model")
        yield Finding("local-host-memory", Severity.WARNING, problem.message, problem.fix, str(recipe_file.path), line)
