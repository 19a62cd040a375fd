"""From a run's model to an endpoint that answers: serverless, or managed online with MLflow's server or vLLM.

An endpoint is named after its run, so that deploying twice, after a lost answer, or from two shells at once, leads to
one endpoint. It is recorded before it is asked for, says what it costs, and bills until `azft down`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.azureml import serving_bodies as bodies
from azft.azureml.endpoint_records import EndpointRecord, remember
from azft.azureml.errors import LimitError, ServiceUnavailableError
from azft.azureml.marketplace import ensure_subscription
from azft.azureml.registration import RegisteredModel, register, require_completed
from azft.azureml.resources import FAILED, SUCCEEDED, Accepted, Resource, Resources, settled
from azft.azureml.serving_choice import (
    Kind,
    Machines,
    OnEvent,
    base_model_of,
    choose_kind,
    choose_machines,
    choose_name,
    is_of,
)
from azft.azureml.storage import folder_files
from azft.azureml.waiting import FailedResourceError, explain, wait_for
from azft.catalog import prices
from azft.catalog.folder import cached_sha256
from azft.catalog.vm_sizes import find_size
from azft.errors import AzftError, ExitCode, InterruptedRunError, UsageError
from azft.files import sha256_tree
from azft.redact import redact
from azft.runs import Run
from azft.runs.record import now
from azft.tags import KIND_TAG, LONGEST_TAG, MODEL_TAG, PROMPT_TAG, TASK_TAG, labels

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

_LOG_LINES = 40
_TRAFFIC = {bodies.DEPLOYMENT: 100}


@dataclass(frozen=True)
class Deployment:
    """An endpoint and what is behind it. `url` is where it is asked; `created` is whether this call made it."""

    name: str
    kind: Kind
    run: str
    model: str
    state: str
    url: str
    workspace: str
    instance_type: str | None
    instance_count: int
    hourly: str
    """What an hour costs, or that it is unknown."""
    billing: str
    """How it is billed."""
    created: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class DeploymentFailedError(AzftError):
    """Azure could not bring the model up. What is left there is named in the fix."""

    exit_code = ExitCode.JOB_FAILED


def deploy(
    connection: Connection,
    run: Run,
    *,
    name: str | None = None,
    kind: Kind | None = None,
    instance_type: str | None = None,
    instances: int = 1,
    model_name: str | None = None,
    root: Path | None = None,
    on_event: OnEvent | None = None,
) -> Deployment:
    """The run's model behind an endpoint, registered first where it isn't yet. Waits until it answers.

    `name`, `kind` and `instance_type` are chosen by the run when they aren't given; `root` is the `.azft` folder where
    the endpoint is recorded. Raises `FindingsError` when the machine can't hold the model, `LimitError` for quota,
    `ConflictError` for a name that is somebody else's, `DeploymentFailedError` with the deployment's own log.
    """
    tell = on_event or (lambda _: None)
    require_completed(run)  # before anybody is asked for machines that nothing will run on
    chosen = choose_kind(run, kind)
    name = choose_name(connection, run, name)
    machines = None
    if chosen != "serverless":
        machines = choose_machines(
            connection, run, name, chosen, instance_type=instance_type, instances=instances, on_event=tell
        )
    model = register(connection, run, name=model_name, on_event=tell)
    tell({"event": "model", "model": model.reference, "created": model.created})
    _require_type(model, chosen)
    work = _Work(connection, run, model, name, chosen, machines, root, tell)
    try:
        return work.serverless() if machines is None else work.online(machines)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"Stopped waiting; the endpoint {name} goes on by itself, and bills.",
            fix=f"Wait on: azft deploy {run.name}\nEnd it: azft down {name}",
        ) from None


class _Work:
    """One deployment on its way."""

    def __init__(
        self,
        connection: Connection,
        run: Run,
        model: RegisteredModel,
        name: str,
        kind: Kind,
        machines: Machines | None,
        root: Path | None,
        tell: OnEvent,
    ) -> None:
        self.connection = connection
        self.resources = Resources(connection)
        self.run = run
        self.model = model
        self.name = name
        self.kind: Kind = kind
        self.machines = machines
        self.root = root
        self.tell = tell
        self.location = str(self.resources.workspace().get("location") or "")
        self.tags = {**labels(run.plan["hash"], run.name), MODEL_TAG: model.reference, KIND_TAG: kind}
        self.tags |= _asked_by(run.plan["recipe"])

    def serverless(self) -> Deployment:
        """A serverless endpoint of a model that serverless fine-tuning made."""
        base, bought = base_model_of(self.resources, self.run)
        if bought:
            ensure_subscription(self.connection, base, on_event=self.tell)
        self._remember()
        body = bodies.serverless_endpoint(model_asset=self.model.asset, location=self.location, tags=self.tags)
        accepted, created = self._settled("serverless", self.name, body=body)
        endpoint = self._wait(accepted)
        url = str((endpoint.properties.get("inferenceEndpoint") or {}).get("uri") or "")
        return self._done(endpoint, url, created)

    def online(self, machines: Machines) -> Deployment:
        """A managed online endpoint with one deployment that gets all traffic."""
        self._remember()
        accepted, _ = self._settled(
            "online", self.name, body=bodies.online_endpoint(self.name, location=self.location, tags=self.tags)
        )
        self._wait(accepted)
        accepted, created = self._settled("deployment", self.name, bodies.DEPLOYMENT, body=self._deployment(machines))
        self._wait(accepted)
        endpoint = self._route()
        return self._done(endpoint, str(endpoint.properties.get("scoringUri") or ""), created)

    def _deployment(self, machines: Machines) -> dict[str, Any]:
        common: dict[str, Any] = {
            "location": self.location,
            "model": self.model.id,
            "instance_type": machines.instance_type,
            "instances": machines.instances,
            "tags": self.tags,
        }
        if self.kind == "mlflow":
            return bodies.mlflow_deployment(self.name, **common)
        row = find_size(machines.instance_type)
        return bodies.vllm_deployment(
            self.name,
            environment=self._environment(),
            model_name=self.model.name,
            gpus=row.gpus if row is not None else 1,
            **common,
        )

    def _environment(self) -> str:
        """The ARM id of the vLLM image's environment; its build folder is uploaded where it isn't there yet."""
        name = bodies.serve_environment_name()
        found = self.resources.get("environment", name, "1")
        if found is None:
            folder = bodies.serve_folder()
            place = f"azft/environments/{sha256_tree(folder)[:32]}"
            for file_name, file in folder_files(folder):
                self.connection.storage.put(f"{place}/{file_name}", file, cached_sha256(file))
            body = bodies.serve_environment(self.connection.storage.url(f"{place}/"))
            accepted, _ = settled(self.resources, "environment", name, "1", body=body, is_ours=lambda _: True)
            self.tell({"event": "environment", "name": name})
            found = accepted.resource
        return found.id or f"{self.connection.workspace.id}/environments/{name}/versions/1"

    def _route(self) -> Resource:
        """Send all traffic to the deployment, unless it goes there already."""
        body = bodies.online_endpoint(self.name, location=self.location, tags=self.tags, traffic=_TRAFFIC)
        for last in (False, False, True):
            endpoint = self.resources.get("online", self.name)
            if endpoint is not None and endpoint.properties.get("traffic") == _TRAFFIC:
                settled_down = endpoint.state.lower() == SUCCEEDED
                return endpoint if settled_down else self._wait(Accepted(endpoint))
            try:
                self._wait(self.resources.put("online", self.name, body=body), quiet=True)
            except ServiceUnavailableError:  # whether it was carried out is seen by looking
                if last:
                    raise
        raise AzftError(
            f"The endpoint {self.name} is there, but does not send its traffic to the model.",
            fix=f"Try again: azft deploy {self.run.name}",
        )

    def _settled(self, kind: str, *names: str, body: dict[str, Any]) -> tuple[Accepted, bool]:
        accepted, created = settled(
            self.resources,
            kind,
            *names,
            body=body,
            is_ours=lambda found: is_of(found, self.run, self.kind),
            again=lambda found: found.state.lower() in FAILED,
        )
        if created:
            self.tell({"event": "created", "kind": kind, "name": names[-1]})
        return accepted, created

    def _wait(self, accepted: Accepted, *, quiet: bool = False) -> Resource:
        try:
            return wait_for(self.resources, accepted, tell=(lambda _: None) if quiet else self.tell)
        except FailedResourceError as error:
            log = self._log() if error.resource.kind == "deployment" else ""
            left = f"What is left of it is still there and may bill. End it: azft down {self.name}"
            fix = f"{log}{left}\nThen deploy again: azft deploy {self.run.name}"
            known = explain(error, f"Deploying {self.model.reference} on {self.name}", fix)
            if isinstance(known, LimitError):
                raise known from None
            raise DeploymentFailedError(known.message, fix=known.fix) from None

    def _log(self) -> str:
        """The end of the deployment's own log, of the server or else of what fetched the model."""
        for container in ("InferenceServer", "StorageInitializer"):
            body = {"containerType": container, "tail": _LOG_LINES}
            try:
                answer = self.resources.act("deployment", self.name, bodies.DEPLOYMENT, action="getLogs", body=body)
            except AzftError:
                continue
            text = redact(str(answer.get("content") or "")).strip()
            if text:
                lines = "\n".join(f"  {line}" for line in text.splitlines()[-_LOG_LINES:])
                return f"The deployment's log ({container}):\n{lines}\n"
        return ""

    def _remember(self) -> None:
        """Record the endpoint before it is asked for."""
        workspace = self.connection.workspace
        remember(
            EndpointRecord(
                name=self.name,
                kind=self.kind,
                run=self.run.name,
                plan=self.run.plan["hash"],
                model=self.model.reference,
                subscription=workspace.subscription,
                resource_group=workspace.resource_group,
                workspace=workspace.name,
                created=now(),
                instance_type=self.machines.instance_type if self.machines else None,
                instance_count=self.machines.instances if self.machines else 0,
            ),
            self.root,
        )

    def _done(self, endpoint: Resource, url: str, created: bool) -> Deployment:
        size = self.machines.instance_type if self.machines else None
        count = self.machines.instances if self.machines else 0
        return Deployment(
            name=self.name,
            kind=self.kind,
            run=self.run.name,
            model=self.model.reference,
            state=endpoint.state,
            url=url,
            workspace=self.connection.workspace.name,
            instance_type=size,
            instance_count=count,
            hourly=prices.hourly_words(size or "serverless", max(1, count)),
            billing=prices.billing("online" if size else "serverless").words,
            created=created,
        )


def _asked_by(recipe: Mapping[str, Any]) -> dict[str, str]:
    """The tags that say how the model is asked; none of a run that was started elsewhere, whose recipe isn't here.

    None either where the recipe's own prompt is too long for a tag: asked by another, the model would be another.
    """
    own = (recipe.get("data") or {}).get("prompt")
    prompt = {} if own is None else {PROMPT_TAG: json.dumps(own)}
    fits = all(len(value) <= LONGEST_TAG for value in prompt.values())
    return {TASK_TAG: str(recipe["task"]), **prompt} if recipe.get("task") and fits else {}


def _require_type(model: RegisteredModel, kind: Kind) -> None:
    """Refuse what would fail after a quarter of an hour: Azure's own server on plain files."""
    if kind == "mlflow" and model.type != "mlflow_model":
        raise UsageError(
            f"{model.reference} is a {model.type}, and Azure's own server loads MLflow models only.",
            fix="Look at the model in Azure ML's studio.",
        )
