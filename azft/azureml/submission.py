"""Starting a plan's job in Azure: once, whatever happens on the way.

The job's name is the run's, chosen here; its properties carry the plan's hash. Before anything is sent we look. After
any answer that doesn't say clearly what happened (a timeout, 408, 429, 5xx, a cut connection, "already exists") we look
again, with patience for what isn't visible yet: ours is adopted, another's is refused, and only when there is nothing
is the same request sent again, under the same name. So there is never a second job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.azureml import uploads
from azft.azureml.errors import Answer, ConflictError, ServiceError, ServiceUnavailableError
from azft.azureml.patience import Patience, call
from azft.azureml.resources import Resource, Resources, look_again
from azft.errors import AzftError
from azft.payloads import build_job
from azft.payloads.wire import wire
from azft.pipeline import quiet_sdk
from azft.plan import Plan
from azft.tags import TAG

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

OnEvent = Callable[[dict[str, Any]], None]

SENDS = 4
"""How often the job is sent at most; each time under the same name, and only after looking."""
LOOKS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between looks for a job that may have been started and isn't visible yet."""
_VERSIONS = {"FineTuning": "2024-10-01-preview", "Pipeline": "2024-01-01-preview", "Command": "2025-01-01-preview"}
"""Job type -> the API version that azure-ai-ml 1.35 sends it with."""
_REGISTERING = Patience(attempts=10)
"""A pipeline's components are a dozen requests that are tried again together."""


@dataclass(frozen=True)
class Submitted:
    """A job that is in Azure now. `started` says whether this call started it."""

    job: Resource
    started: bool


def find_job(connection: Connection, name: str, plan_hash: str) -> Resource | None:
    """The job of this name if it is this plan's; None when there is none. Raises `ConflictError` for another's."""
    found = Resources(connection).get("job", name)
    if found is not None:
        _require_ours(found, plan_hash)
    return found


def submit_once(
    connection: Connection,
    plan: Plan,
    *,
    name: str,
    run: str,
    code: Path | None,
    parameters: Path,
    model: str | None = None,
    force: bool = False,
    on_event: OnEvent = lambda _: None,
) -> Submitted:
    """Have the plan's job exist under this name, exactly once. Look first (`find_job`): this begins with the uploads.

    `run` is the run it belongs to, by which a second job of it finds the checkpoints; `code` and `parameters` are the
    staged folders of azft's own pipeline; `model` is the registry's model with its version, in place of the newest that
    the plan names; with `force` Azure reuses no step of an earlier job.

    Raises `ConflictError` when the name is somebody else's, `LimitError`, `SignInError`, `ServiceUnavailableError` when
    Azure does not answer (do the same again: it is settled then), `ServiceError` for a refusal.
    """
    references = uploads.ensure(connection, plan, code=code, parameters=parameters, on_event=on_event)
    assert plan.target is not None
    references = {**references, plan.target.model_id: model or plan.target.model_id}
    on_event({"event": "registering", "job": name})
    body = call(
        "Registering the job's steps",
        lambda: job_body(connection, plan, name=name, run=run, code=code, parameters=parameters, references=references),
        patience=_REGISTERING,
    )
    settings = body["properties"].get("settings")
    if force and isinstance(settings, dict):
        settings["force_rerun"] = True
    on_event({"event": "submitting", "job": name})
    return _send(connection, plan, name, body)


def job_body(
    connection: Connection,
    plan: Plan,
    *,
    name: str,
    run: str,
    code: Path | None,
    parameters: Path,
    references: dict[str, str],
) -> dict[str, Any]:
    """The JSON to send: the plan's job with every reference resolved and every step registered. May be repeated."""
    with quiet_sdk():
        job = build_job(plan, name=name, run=run, code=code or Path(), parameters=parameters, references=references)
        from azure.ai.ml.entities._job.to_rest_functions import to_rest_job_object

        _name_the_cache(connection, plan)
        connection.client.jobs._resolve_arm_id_or_upload_dependencies(job)
        return wire(to_rest_job_object(job))


def _name_the_cache(connection: Connection, plan: Plan) -> None:
    """Tell the SDK what its memory of registered components is filed under; else it reads the workspace for that.

    It must be another one for a workspace that was deleted and made anew, whose components are gone: the container of
    its blob store has the workspace's own id in its name, and is known from the uploads. Without steps of azft's own
    nothing is registered, and nothing is looked up there.
    """
    container = str(connection.storage.datastore.container_name) if plan.steps else ""
    connection.client.components._client_key = f"workspace/{connection.workspace.id}/{container}"


def _send(connection: Connection, plan: Plan, name: str, body: dict[str, Any]) -> Submitted:
    for attempt in range(SENDS):
        last = attempt + 1 == SENDS
        try:
            job = call("Submitting the job", lambda: _put(connection, name, body), idempotent=False)
        except ServiceError as error:
            answer = error.answer or Answer()
            if answer.status == 403 or (answer.status == 401 and last):
                raise
            # A clear refusal needs one look; a job that may have been started may not be seen at once.
            pauses = LOOKS if answer.unclear else ()
            found = look_again("Submitting the job", lambda: find_job(connection, name, plan.hash), answer, pauses)
            if found is not None:
                return Submitted(found, started=attempt > 0 or answer.unclear)
            if last or not (answer.unclear or answer.status == 401):
                raise
        else:
            _require_ours(job, plan.hash)
            return Submitted(job, started=True)
    raise AssertionError  # the last attempt returns or raises


def _put(connection: Connection, name: str, body: dict[str, Any]) -> Resource:
    """One request. A pipeline runs as whoever submits it, so it carries a token for Azure ML of theirs."""
    from azure.ai.ml._azure_environments import _get_aml_resource_id_from_metadata

    kind = str(body["properties"]["jobType"])
    headers = {}
    if kind == "Pipeline":
        headers["x-azureml-token"] = connection.credential.get_token(
            f"{_get_aml_resource_id_from_metadata()}/.default"
        ).token
    version = _VERSIONS.get(kind, _VERSIONS["Pipeline"])
    return Resources(connection).send("job", name, body=body, version=version, headers=headers).resource


def _require_ours(job: Resource, plan_hash: str) -> None:
    """Raise `ConflictError` unless the job carries the plan's hash."""
    said = job.marks.get(TAG)
    if said == plan_hash:
        return
    if not job.properties:
        raise ServiceUnavailableError(f"Azure's answer about the job {job.name} is empty.", fix="Do the same again.")
    whose = "carries another plan's hash" if said else "was not started by azft"
    raise ConflictError(
        f"Azure has a job {job.name} already, and it {whose}; nothing was started.",
        fix="Give the recipe another `name`, or start one beside it with --again.",
    )


def next_name(connection: Connection, plan: Plan, taken: Callable[[str], bool]) -> str:
    """The first of NAME-2, NAME-3, ... that is neither here (`taken`) nor in Azure, for a wanted second run."""
    resources = Resources(connection)
    for number in range(2, 1000):
        name = f"{plan.run_name}-{number}"
        if not taken(name) and resources.get("job", name) is None:
            return name
    raise AzftError(f"The plan {plan.run_name} has a thousand runs.", fix="Change something in the recipe.")
