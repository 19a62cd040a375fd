"""What the modes on Azure share: a run's record here, its one job there, and the way between them.

The record is written before the job is sent, and says whether it was. So whatever is killed whenever, submitting again
finds out by looking what there is, and goes on from that.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from azft.azureml.connection import Access
from azft.errors import (
    AzftError,
    InterruptedRunError,
    JobFailedError,
    NotFoundError,
    StalePlanError,
    UnreachableError,
    UsageError,
)
from azft.files import write_json
from azft.modes.base import OnEvent, ignore, read_plan
from azft.pipeline import write_parameters
from azft.plan import Plan
from azft.plan_checks import require_fresh, require_no_errors
from azft.recipe_file import RecipeFile
from azft.runs import Run, RunState, RunStore, Status
from azft.runs.environment import describe_environment
from azft.runs.watching import Watcher, follow
from azft.staging import stage_code

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

_OTHERS_PATIENCE = 1800.0
"""Seconds to wait for another shell that is submitting the same run: its uploads may be large."""


class _Claim(NamedTuple):
    """The run that a submission is for."""

    run: Run
    held: bool
    """Whether this process has its lock."""
    absent: bool
    """Whether Azure was just found to lack its job."""


class AzureMode:
    """A mode whose plans run in an Azure ML workspace."""

    name: ClassVar[str]

    def __init__(self, root: Path | None = None, access: Access | None = None) -> None:
        """`root` is the `.azft` folder; `access` says which workspace and whose sign-in."""
        self.store = RunStore(root)
        self.access = access or Access()

    def plan(self, recipe_file: RecipeFile) -> Plan:
        """See `Mode.plan`. Needs neither a network nor an account."""
        from azft.azure_plan import make_azure_plan

        return make_azure_plan(recipe_file, self.name)

    def submit(
        self,
        plan: Plan,
        *,
        again: bool = False,
        force: bool = False,
        wait: bool = True,
        on_event: OnEvent | None = None,
    ) -> Run:
        """See `Mode.submit`. A job that failed is not started again by itself: `resume` or `again` asks for that."""
        if plan.mode != self.name or plan.target is None:
            raise UsageError(f"The plan {plan.run_name} was made for mode {plan.mode}, not {self.name}.")
        require_no_errors(plan)
        require_fresh(plan)
        connection = self.access.connect()
        tell = on_event or ignore
        tell({"event": "workspace", **asdict(connection.workspace)})  # a wrong one is seen before anything is sent
        with ExitStack() as locks:
            claim = self._claim(connection, plan, again=again or (force and self._is_done(plan)), locks=locks)
            run = claim.run
            start = partial(self._send, absent=claim.absent) if claim.held else self._start
            started = start(self._connect(run), run, plan, force=force, tell=tell)
        return self._watch(run, wait=wait, tell=tell, adopted=not started)

    def resume(self, run: Run, *, wait: bool = True, on_event: OnEvent | None = None) -> Run:
        """See `Mode.resume`. Starts a second job of the run, which finds the first one's checkpoints."""
        tell = on_event or ignore
        connection = self._connect(run)
        self._refresh_surely(connection, run)  # an outage is an error here: what was last known may be long over
        state = run.state
        if not run.azure["submitted"]:
            self._start(connection, run, self._plan_of(run), force=False, tell=tell)
        elif state is not RunState.COMPLETED and not state.active:
            if not run.resumable:
                raise UsageError(
                    f"Run {run.name} can't be resumed: Azure's own fine-tuning leaves no checkpoint to go on from.",
                    fix=f"Start another run of the same plan with: {run.another}",
                )
            plan = self._plan_of(run)
            require_fresh(plan, recipe=False)
            self._next_job(run)
            self._start(connection, run, plan, force=False, tell=tell)
        return self._watch(run, wait=wait, tell=tell, adopted=False)

    def refresh(self, run: Run) -> None:
        """See `Mode.refresh`."""
        from azft.azureml import watching

        watching.refresh(self._connect(run), run)

    def _refresh_surely(self, connection: Connection, run: Run) -> None:
        """As `refresh`, for who decides by it: what was last known, which will do to be shown, is not enough."""
        from azft.azureml import watching

        if not watching.refresh(connection, run):
            raise AzftError(
                f"Another process is still bringing run {run.name} up to date, so how it stands is not known.",
                fix="Do the same again when that one is done.",
            )

    def _refresh_if_reachable(self, run: Run) -> None:
        """Bring the record up to date if Azure answers; else it says what was last known."""
        try:
            self.refresh(run)
        except UnreachableError:
            return

    def status(self, run: Run) -> Status:
        """See `Mode.status`."""
        self._refresh_if_reachable(run)
        return run.status()

    def logs(self, run: Run, step: str, offset: int = 0) -> tuple[list[str], int]:
        """See `Mode.logs`."""
        self._refresh_if_reachable(run)
        return run.log(step, offset)

    def cancel(self, run: Run) -> None:
        """See `Mode.cancel`. A job that has ended stays as it is."""
        from azft.azureml.errors import ServiceError
        from azft.azureml.resources import Resources

        connection = self._connect(run)
        self._refresh_surely(connection, run)
        if not run.state.active:
            return
        resources, job = Resources(connection), str(run.azure["job"])
        write_json(run.folder / "cancel.json", {"job": job})
        try:
            resources.act("job", job, action="cancel")
        except ServiceError:
            self.refresh(run)
            if run.state.active:  # it did not end in between, so the refusal counts
                raise

    def outputs(self, run: Run) -> dict[str, Path]:
        """See `Mode.outputs`: what is here of them. `azft.azureml.outputs` brings the rest."""
        return run.outputs()

    def _connect(self, run: Run) -> Connection:
        """A connection to the workspace that the run is in; flags that name another are a mistake."""
        from azft.azureml.remote_runs import workspace_of

        workspace = workspace_of(run)
        given = {
            "subscription": (self.access.subscription, workspace.subscription),
            "resource group": (self.access.resource_group, workspace.resource_group),
            "workspace": (self.access.workspace, workspace.name),
        }
        for part, (wanted, actual) in given.items():
            if wanted is not None and wanted.lower() != actual.lower():
                raise UsageError(f"Run {run.name} is in the {part} {actual}, not {wanted}.", fix="Leave that flag out.")
        return self.access.connect(workspace)

    def _is_done(self, plan: Plan) -> bool:
        latest, _ = self.store.latest(plan.run_name, plan.hash)
        return latest is not None and latest.state is RunState.COMPLETED

    def _claim(self, connection: Connection, plan: Plan, *, again: bool, locks: ExitStack) -> _Claim:
        """The run of a plan: the latest that is known, or a new record. Nothing is sent yet.

        With `again` it is a new one, but for the latest that was cut off before its job was sent: that is gone on with.
        Either is this process's own until `locks` ends, from the moment that others can see it: so each shell that
        asks for another run gets one.
        """
        from azft.azureml.remote_runs import describe
        from azft.azureml.submission import find_job, next_name

        assert plan.target is not None
        with self.store.naming():
            latest, _ = self.store.latest(plan.run_name, plan.hash)
            held = again and latest is not None and self._is_left(connection, latest, locks)
            if latest is not None and (held or not again):
                self._require_here(connection, latest)
                self._complete(latest, plan)
                return _Claim(latest, held=held, absent=False)
            name, absent = plan.run_name, True
            if again:
                name = next_name(connection, plan, lambda taken: self.store.find(taken) is not None)
            else:  # somebody else's name, or a sign-in that fails: before a record
                absent = find_job(connection, name, plan.hash) is None
            azure = describe(connection.workspace, name, name, plan.target.service)
            run = self.store.create(name, plan=plan.model_dump(mode="json"), recipe=plan.recipe, azure=azure)
            return _Claim(run, held=locks.enter_context(run.hold()), absent=absent)

    def _is_left(self, connection: Connection, run: Run, locks: ExitStack) -> bool:
        """Whether the run was cut off before its job was sent, here, and nobody is at it; it is then held."""
        from azft.azureml.remote_runs import workspace_of

        sent = run.azure["submitted"] or not workspace_of(run).same_as(connection.workspace)
        return not sent and locks.enter_context(run.hold(1.0)) and not run.azure["submitted"]

    def _require_here(self, connection: Connection, run: Run) -> None:
        from azft.azureml.remote_runs import workspace_of

        if not workspace_of(run).same_as(connection.workspace):
            raise UsageError(
                f"Run {run.name} of this plan is in the workspace {run.azure['workspace']}, not "
                f"{connection.workspace.name} (found by {connection.workspace.found_by}).",
                fix="Name that workspace, or start another run here with --again.",
            )

    def _complete(self, run: Run, plan: Plan) -> None:
        """Give a record that was adopted from Azure the plan that it lacks."""
        if run.plan.get("adopted"):
            write_json(run.folder / "recipe.json", plan.recipe)
            write_json(run.folder / "plan.json", plan.model_dump(mode="json"))

    def _plan_of(self, run: Run) -> Plan:
        if run.plan.get("adopted"):
            raise NotFoundError(
                f"Run {run.name} was started on another machine, and its plan is there.",
                fix="Resume it there, or submit its recipe here first: azft submit recipe.yaml",
            )
        return read_plan(run)

    def _next_job(self, run: Run) -> None:
        """Name the next job of a run, in the record first."""
        with run.hold(_OTHERS_PATIENCE) as held:
            record = run.azure
            if not held or not record["submitted"]:
                return  # another shell has just done it
            job = f"{run.name}-r{len(record['jobs'])}"
            given = {"job": job, "jobs": [*record["jobs"], job], "submitted": False, "job_id": None, "studio_url": None}
            write_json(run.folder / "azure.json", {**record, **given})
            run.forget_cancel()

    def _start(self, connection: Connection, run: Run, plan: Plan, *, force: bool, tell: OnEvent) -> bool:
        """Have the run's job in Azure; whether this call started it. One shell at a time."""
        deadline = time.monotonic() + _OTHERS_PATIENCE
        while not run.azure["submitted"]:
            with run.hold(1.0) as held:
                if held:
                    return not run.azure["submitted"] and self._send(connection, run, plan, force=force, tell=tell)
            if time.monotonic() > deadline:
                raise AzftError(f"Another process has been submitting run {run.name} for too long.", fix="Look at it.")
        return False

    def _send(
        self, connection: Connection, run: Run, plan: Plan, *, force: bool, tell: OnEvent, absent: bool = False
    ) -> bool:
        """The same while the run is held. `absent`: somebody has just looked, and there is no such job."""
        from azft.azureml.computes import ensure_compute
        from azft.azureml.marketplace import ensure_subscription
        from azft.azureml.patience import telling
        from azft.azureml.registry_facts import require_model
        from azft.azureml.submission import find_job, submit_once
        from azft.azureml.watching import mark_submitted

        assert plan.target is not None
        job = str(run.azure["job"])
        attempt = len(run.azure["jobs"])
        try:
            with telling(tell):
                found = None if absent else find_job(connection, job, plan.hash)
                if found is None:
                    run.set_state(RunState.QUEUED, message="It is being sent to Azure.", attempt=attempt)
                    write_json(run.folder / "environment.json", describe_environment(plan.recipe_path.parent))
                    tell({"event": "run-started", "run": run.name, "job": job, "folder": str(run.folder)})
                    # First, because nothing is made for a typo.
                    model = require_model(connection, plan.target.model_id, on_event=tell)
                    # The first job's, because a later one goes on from its checkpoints, which are not another model's.
                    model = run.azure.get("model") or model
                    if "/labels/" not in model:
                        write_json(run.folder / "azure.json", {**run.azure, "model": model})
                    ensure_compute(connection, plan, create=self.access.create_compute, on_event=tell)
                    if plan.target.marketplace:
                        ensure_subscription(connection, plan.target.model_id, on_event=tell)
                    code = self._stage(run, plan)
                    done = submit_once(
                        connection, plan, name=job, run=run.name, code=code, parameters=run.folder / "parameters",
                        model=model, force=force, on_event=tell,
                    )  # fmt: skip
                    found, started = done.job, done.started
                else:
                    started = False
            mark_submitted(run, found)
            run.set_state(RunState.QUEUED, attempt=attempt)
        except AzftError as error:
            # Only a clear refusal is a failure; after anything else the next submit finds out by looking.
            lost = isinstance(error, (UnreachableError, InterruptedRunError))
            state = RunState.INTERRUPTED if lost else RunState.FAILED
            run.set_state(state, message=error.message, fix=error.fix, attempt=attempt)
            raise
        except KeyboardInterrupt:
            fix = f"Submit again, or: azft resume {run.name}. Nothing is started twice."
            message = f"Submitting run {run.name} was interrupted; it may be in Azure or not."
            run.set_state(RunState.INTERRUPTED, message=message, fix=fix, attempt=attempt)
            raise InterruptedRunError(message, fix=fix) from None
        tell({"event": "submitted", "run": run.name, "job": job, "studio_url": run.azure["studio_url"]})
        return started

    def _stage(self, run: Run, plan: Plan) -> Path | None:
        """Write what azft's own pipeline reads besides the data; its code folder."""
        if not plan.steps:
            return None
        code = stage_code(self.store.code)
        if code.hash != plan.code_hash:
            raise StalePlanError("azft's code changed since the plan was made.", fix="Submit the recipe again.")
        write_parameters(plan, run.folder / "parameters")
        return code.folder

    def _watch(self, run: Run, *, wait: bool, tell: OnEvent, adopted: bool) -> Run:
        """Follow the run to its end, or say where it stands."""
        watcher = Watcher(run)
        try:
            if adopted:  # of a job that was just started the answer says all there is
                self._refresh_if_reachable(run)
                tell({"event": "run-adopted", "run": run.name, "state": str(run.state), "folder": str(run.folder)})
            status = run.status()
            if wait and status.state.active:
                status = follow(run, tell, watcher=watcher, refresh_run=self.refresh)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"Stopped watching; run {run.name} goes on in Azure.",
                fix=f"Watch again: azft logs {run.name} --follow\nEnd it: azft cancel {run.name}",
            ) from None
        if status.state in {RunState.FAILED, RunState.CANCELED}:
            fix = status.fix
            if run.another not in fix and (adopted or not fix):
                fix = f"{fix}\nStart another run of the same plan with: {run.another}".strip()
            raise JobFailedError(status.message or f"Run {run.name} ended as {status.state}.", fix=fix)
        if wait and status.state is RunState.INTERRUPTED:
            raise InterruptedRunError(status.message or f"Run {run.name} was interrupted.", fix=status.fix)
        return run
