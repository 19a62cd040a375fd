"""Runs, here and in Azure: starting, finding, following and ending them, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from azft.api.planning import RecipeLike, access_of, plan
from azft.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from azft.azureml.connection import Access, Connection
    from azft.azureml.outputs import RemoteOutput
    from azft.azureml.remote_runs import RemoteRun
    from azft.azureml.workspace import Workspace
    from azft.modes.base import Mode
    from azft.plan import Plan
    from azft.run_summary import RunSummary
    from azft.runs import Run, RunStore

OnEvent = Callable[[dict[str, Any]], None]


def submit(
    what: Plan | RecipeLike,
    *,
    mode: str | None = None,
    again: bool = False,
    force: bool = False,
    wait: bool = True,
    on_event: OnEvent | None = None,
    access: Access | None = None,
) -> Run:
    """Carry out a plan, or a recipe planned for `mode` (local, where it isn't given). The same plan twice is one run.

    `again` asks for a second run of the same plan; `force` reuses no step of an earlier one; without `wait` the run
    goes on in a process of its own, or in Azure. `on_event` gets each event as it happens; `access` says which
    workspace and whose sign-in, where the mode needs one (`azft.azureml.connection.Access`).

    Raises `FindingsError` when a finding stands in the way, `StalePlanError` when something changed since the plan was
    made, `JobFailedError` when the run failed and `InterruptedRunError` when it was stopped.
    """
    from azft.modes import get_mode
    from azft.plan import Plan

    made = what if isinstance(what, Plan) else plan(what, mode or "local")
    if mode is not None and made.mode != mode:
        raise UsageError(
            f"The plan {made.run_name} is for mode {made.mode}, not {mode}.",
            fix=f"Leave out the mode, or plan the recipe for the other one: azft.plan(recipe, mode={mode!r})",
        )
    _store()
    mode_of_plan = get_mode(made.mode, access=access)
    return mode_of_plan.submit(made, again=again, force=force, wait=wait, on_event=on_event)


def runs() -> list[Run]:
    """The runs of this folder (or of AZFT_HOME), newest first, as they were last known here."""
    return _store().list()


def remote_runs(*, access: Access | None = None) -> list[RemoteRun]:
    """The runs of a workspace, whoever started them from where, newest first."""
    from azft.azureml.remote_runs import list_remote

    return list_remote(access_of(access).connect())


def get_run(name: Run | str | None = None, *, access: Access | None = None) -> Run:
    """A run by its name or the start of it; the newest without a name. Raises `NotFoundError` with what there is.

    A run that was found already is returned as it is.

    With `access`, a run that is not known here is looked for in Azure by its whole name, and gets a record here.
    """
    from azft.runs import Run as Found

    store, given = _store(), cast("object", name)
    if isinstance(given, Found):
        return given
    if given is None:
        listed = store.list()
        if not listed:
            fix = "Start one with: azft submit recipe.yaml"
            raise NotFoundError(f"There are no runs in {store.runs_folder}.", fix=fix)
        return listed[0]
    if not isinstance(given, str):
        found = type(given).__name__
        raise UsageError(f"A run is its name, or what submit and get_run return; this is of type {found}.")
    try:
        return store.get(given)
    except NotFoundError as error:
        workspace = None if access is None else _workspace(access)
        if access is None or workspace is None:
            raise
        adopted = _adopt(given, access, workspace)
        if adopted is None:
            where = f"and the workspace {workspace.name} has none that azft started"
            raise NotFoundError(f"{error.message.rstrip('.')}, {where}.", fix=error.fix) from None
        return adopted


def refresh(run: Run | str, *, access: Access | None = None) -> Run:
    """The run, its record brought up to date from where it runs; nothing to do for a run on this machine.

    Raises `UnreachableError` when that place does not answer; the record then says what was last known.
    """
    found = run_of(run)
    if found.remote:
        mode_of(found, access).refresh(found)
    return found


def resume(run: Run | str, *, wait: bool = True, on_event: OnEvent | None = None, access: Access | None = None) -> Run:
    """Go on with a run that failed, was canceled or was cut off, from its last checkpoint. Raises as `submit` does."""
    found = run_of(run)
    return mode_of(found, access).resume(found, wait=wait, on_event=on_event)


def cancel(run: Run | str, *, access: Access | None = None) -> Run:
    """Ask a run to end; it saves a checkpoint first. Returns at once."""
    found = run_of(run)
    mode_of(found, access).cancel(found)
    return found


def summarize(run: Run | str) -> RunSummary:
    """Where a run stands and what came of it: state, model, training, evaluation before and after, outputs."""
    from azft.run_summary import summarize as read

    return read(run_of(run))


def follow_logs(
    run: Run | str,
    on_line: Callable[[dict[str, str]], None],
    *,
    step: str | None = None,
    offsets: dict[str, int] | None = None,
    on_event: OnEvent | None = None,
    access: Access | None = None,
) -> str:
    """Pass on the lines of a run's logs as `{"step", "line"}` until it ends; returns the state it ended in.

    `offsets` says, by step, up to which byte the lines are known already; `on_event` hears of each step that was
    reused, and so has no lines here (`step-reused`), and of outages of the place where it runs, which are waited out.
    Stopping this never stops the run. Raises `NotFoundError`, at the end, for a step that no run has.
    """
    import time

    from azft.runs.watching import Pace, Refresher
    from azft.staging import COMPONENTS

    found = run_of(run)
    known, events_known = dict(offsets or {}), 0
    tell = on_event or (lambda _: None)
    bring = Refresher(found, tell, lambda remote: _refresh(remote, access))
    pace = Pace.of(found)
    while True:
        bring()
        state = found.state  # before the lines: whatever was written before the end is then read
        news = False
        for name in [step] if step is not None else found.log_steps():
            lines, known[name] = found.log(name, known.get(name, 0))
            for line in lines:
                news = True
                on_line({"step": name, "line": line})
        events, events_known = found.events(events_known)
        for event in reused_steps(found, step, events):
            tell(event)
        if not state.active:
            if step is not None and step not in (*COMPONENTS, *found.log_steps()):
                raise no_log_of(found, step)
            return str(state)
        time.sleep(pace.next(news=news))


def no_log_of(run: Run, step: str) -> NotFoundError:
    """What is said where a run has no log of a step."""
    there = ", ".join(run.log_steps()) or "none yet"
    return NotFoundError(f"Run {run.name} has no log of a step `{step}`.", fix=f"There are: {there}.")


def reused_steps(
    run: Run | str, step: str | None = None, events: Iterable[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """The `step-reused` events of a run (or those among `events`) of steps that therefore wrote no log here.

    `source` in each names the run that carried the step out, in Azure its job; None where that isn't known.
    """
    found = run_of(run)
    written = found.log_steps()
    told = found.events()[0] if events is None else events
    reused = (event for event in told if event.get("event") == "step-reused" and event.get("step") not in written)
    return [event for event in reused if step in (None, event["step"])]


def remote_outputs(run: Run | str, *, access: Access | None = None) -> list[RemoteOutput]:
    """What a run in Azure has to give: each output, where it lies, how large it is.

    Raises `UsageError` for a run on this machine, whose outputs are here.
    """
    from azft.azureml.outputs import list_outputs

    found = _in_azure(run)
    return list_outputs(connect_for(found, access), found)


def download(
    run: Run | str,
    names: Iterable[str] | str = (),
    *,
    folder: Path | str | None = None,
    on_event: OnEvent | None = None,
    access: Access | None = None,
) -> dict[str, Path]:
    """Bring outputs of a run in Azure here, all or the named ones, into the run's folder or another; their places.

    One name may stand alone. May be cut off and repeated: what is here already and right is not fetched again. Raises
    `UsageError` for a run on this machine, whose outputs are here.
    """
    from azft.azureml.outputs import download as fetch

    found = _in_azure(run)
    target = None if folder is None else Path(folder)
    wanted = [names] if isinstance(names, str) else names
    return fetch(connect_for(found, access), found, wanted, folder=target, on_event=on_event or (lambda _: None))


def run_of(run: Run | str) -> Run:
    """The run, found where only its name was given."""
    if run is None:
        raise UsageError("No run was given.", fix="The newest one is azft.get_run().")
    return get_run(run)


def mode_of(run: Run, access: Access | None = None) -> Mode:
    """The mode that a run was submitted in."""
    from azft.modes import get_mode

    return get_mode(run.plan["mode"], access=access)


def connect_for(run: Run, access: Access | None) -> Connection:
    """A connection to the workspace of a run."""
    from azft.azureml.teardown import connect_for as connect

    return connect(run, access_of(access))


def _in_azure(run: Run | str) -> Run:
    """The run. Raises `UsageError` for one on this machine."""
    found = run_of(run)
    if not found.remote:
        fix = f"Their places: run.outputs(), or azft outputs {found.name}"
        raise UsageError(f"The outputs of run {found.name} are on this machine.", fix=fix)
    return found


def _store() -> RunStore:
    """The runs' store. Runs that it hands out can be waited for, wherever they run."""
    from azft.runs import RunStore as Store
    from azft.runs.watching import refresh_with

    refresh_with(_refresh)
    return Store()


def _workspace(access: Access) -> Workspace | None:
    """The workspace that is known; None when there is none."""
    try:
        return access.find()
    except UsageError:
        return None


def _adopt(name: str, access: Access, workspace: Workspace) -> Run | None:
    """The record of a run that only Azure knows; None when the workspace has no such run."""
    from azft.azureml.remote_runs import adopt, find_remote

    connection = access.connect(workspace)
    job = find_remote(connection, name)
    return None if job is None else adopt(_store(), connection, job)


def _refresh(run: Run, access: Access | None = None) -> None:
    refresh(run, access=access)
