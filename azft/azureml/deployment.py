"""From a run's model to an endpoint that answers: serverless, or managed online with MLflow's server or vLLM.

An endpoint is named after its run, so that deploying twice, after a lost answer, or from two shells at once, leads to
one endpoint. It is recorded before it is asked for, says what it costs, and bills until `azft down`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from azft.azureml import serving_bodies as bodies
from azft.azureml.endpoint_records import EndpointRecord, remember
from azft.azureml.errors import LimitError, ServiceUnavailableError
from azft.azureml.marketplace import ensure_subscription
from azft.azureml.registration import RegisteredModel, job_of, labels, register
from azft.azureml.registry_facts import read_facts
from azft.azureml.resources import FAILED, KIND_TAG, MODEL_TAG, SUCCEEDED, Accepted, Resource, Resources, settled
from azft.azureml.serving_machine import Need, check_quota, choose, fit, weights
from azft.azureml.storage import folder_files
from azft.azureml.waiting import FailedResourceError, explain, wait_for
from azft.catalog import prices
from azft.catalog.folder import cached_sha256
from azft.catalog.rows import find
from azft.catalog.vm_sizes import find_size
from azft.errors import AzftError, ExitCode, FindingsError, InterruptedRunError, UsageError
from azft.files import sha256_bytes, sha256_tree
from azft.findings import Finding, Severity, has_errors
from azft.redact import redact
from azft.runs import Run
from azft.runs.record import now

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

Kind = Literal["serverless", "mlflow", "vllm"]
KINDS: tuple[Kind, ...] = ("serverless", "mlflow", "vllm")
OnEvent = Callable[[dict[str, Any]], None]

_LONGEST_NAME = 32
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
    chosen = _kind(run, kind)
    name = endpoint_name(connection, run) if name is None else _checked_name(name)
    model = register(connection, run, name=model_name, on_event=tell)
    tell({"event": "model", "model": model.reference, "created": model.created})
    _require_servable(run, model, chosen)
    work = _Work(connection, run, model, name, chosen, root, tell)
    try:
        if chosen == "serverless":
            return work.serverless()
        return work.online(instance_type, instances)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"Stopped waiting; the endpoint {name} goes on by itself, and bills.",
            fix=f"Wait on: azft deploy {run.name}\nEnd it: azft down {name}",
        ) from None


def endpoint_name(connection: Connection, run: Run) -> str:
    """The endpoint's name: the run's, and four characters that tell workspaces apart.

    Names of online endpoints are unique in a region, and two workspaces may well run the same plan. Azure takes 3 to 32
    letters, digits and hyphens, a letter first.
    """
    place = f"{connection.workspace.id.lower()}\n{run.name}"
    tail = f"{run.plan['hash'][:8]}-{sha256_bytes(place.encode())[:4]}"
    words = re.sub(r"[^a-z0-9]+", "-", str(run.plan["name"]).lower()).strip("-")
    if not words[:1].isalpha():
        words = f"m-{words}".strip("-")
    return f"{words[: _LONGEST_NAME - len(tail) - 1].strip('-')}-{tail}"


class _Work:
    """One deployment on its way."""

    def __init__(
        self,
        connection: Connection,
        run: Run,
        model: RegisteredModel,
        name: str,
        kind: Kind,
        root: Path | None,
        tell: OnEvent,
    ) -> None:
        self.connection = connection
        self.resources = Resources(connection)
        self.run = run
        self.model = model
        self.name = name
        self.kind = kind
        self.root = root
        self.tell = tell
        self.location = str(self.resources.workspace().get("location") or "")
        self.tags = {**labels(run), MODEL_TAG: model.reference, KIND_TAG: kind}
        self.instance_type: str | None = None
        self.instances = 1

    def serverless(self) -> Deployment:
        """A serverless endpoint of a model that serverless fine-tuning made."""
        base, bought = self._base()
        if bought:
            ensure_subscription(self.connection, base, on_event=self.tell)
        self._remember()
        body = bodies.serverless_endpoint(model_asset=self.model.asset, location=self.location, tags=self.tags)
        accepted, created = self._settled("serverless", self.name, body=body)
        endpoint = self._wait(accepted)
        url = str((endpoint.properties.get("inferenceEndpoint") or {}).get("uri") or "")
        return self._done(endpoint, url, created)

    def online(self, instance_type: str | None, instances: int) -> Deployment:
        """A managed online endpoint with one deployment that gets all traffic."""
        there = self.resources.get("deployment", self.name, bodies.DEPLOYMENT)
        if there is not None and self._is_ours(there) and there.state.lower() not in FAILED:
            self._adopt(there, instance_type, instances)
        else:
            self._choose(instance_type, instances)
        self._remember()
        accepted, _ = self._settled(
            "online", self.name, body=bodies.online_endpoint(self.name, location=self.location, tags=self.tags)
        )
        self._wait(accepted)
        accepted, created = self._settled("deployment", self.name, bodies.DEPLOYMENT, body=self._deployment())
        self._wait(accepted)
        endpoint = self._route()
        return self._done(endpoint, str(endpoint.properties.get("scoringUri") or ""), created)

    def _choose(self, instance_type: str | None, instances: int) -> None:
        """Choose the machines, and look whether the model fits and the quota allows them."""
        needs_gpu = self.kind == "vllm"
        need = self._need()
        recommended: tuple[str, ...] = ()
        if instance_type is None and self.run.remote:
            facts = read_facts(self.connection, self._base()[0])
            recommended = facts.serve_sizes if facts is not None else ()
        size = choose(instance_type, recommended, need, needs_gpu=needs_gpu)
        findings = fit(size, need, needs_gpu=needs_gpu)
        if has_errors(findings):
            raise FindingsError(f"{size} can't serve {self.model.reference}.", findings)
        for finding in findings:
            self.tell({"event": "finding", **finding.to_dict()})
        for finding in check_quota(self.resources, size, instances):
            self._allow(finding)
        self.instance_type, self.instances = size, instances

    def _base(self) -> tuple[str, bool]:
        """The id of the model that was tuned, and whether it has to be bought in the marketplace.

        A run that was started elsewhere has no plan here, so its job says which model; the catalog then whose it is.
        """
        target = self.run.plan.get("target") or {}
        if "model_id" in target:
            return str(target["model_id"]), bool(target.get("marketplace"))
        job = self.resources.get("job", job_of(self.run))
        properties = job.properties if job is not None else {}
        details = properties.get("fineTuningDetails") or {}
        given = details.get("model") or (properties.get("inputs") or {}).get("model") or {}
        base = str(given.get("uri") or "")
        row = find(base)
        return base, row is not None and row.azure is not None and row.azure.provider != "Microsoft"

    def _allow(self, finding: Finding) -> None:
        if finding.severity is Severity.ERROR:
            kind = LimitError if finding.code == "serve-quota" else UsageError
            raise kind(finding.message, fix=finding.fix)
        self.tell({"event": "finding", **finding.to_dict()})

    def _adopt(self, there: Resource, instance_type: str | None, instances: int) -> None:
        """Take a deployment as it is; other machines than it has are another deployment."""
        has = str(there.properties.get("instanceType") or "")
        count = int(there.sku.get("capacity") or 1)
        if (instance_type is not None and instance_type.casefold() != has.casefold()) or (
            instances != 1 and instances != count
        ):
            raise UsageError(
                f"The endpoint {self.name} is there already, on {count} x {has}.",
                fix=f"End it first (azft down {self.name}), or give the new one another name with --name.",
            )
        self.instance_type, self.instances = has, count

    def _need(self) -> Need:
        plan = self.run.plan
        packaged = self.run.outputs().get("packaged") if plan.get("target") is None else None
        return weights(plan, packaged)

    def _deployment(self) -> dict[str, Any]:
        assert self.instance_type is not None
        common: dict[str, Any] = {
            "location": self.location,
            "model": self.model.id,
            "instance_type": self.instance_type,
            "instances": self.instances,
            "tags": self.tags,
        }
        if self.kind == "mlflow":
            return bodies.mlflow_deployment(self.name, **common)
        row = find_size(self.instance_type)
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
            is_ours=self._is_ours,
            again=lambda found: found.state.lower() in FAILED,
        )
        if created:
            self.tell({"event": "created", "kind": kind, "name": names[-1]})
        return accepted, created

    def _is_ours(self, found: Resource) -> bool:
        return found.is_of(self.run.name, self.run.plan["hash"]) and found.tags.get(KIND_TAG) == self.kind

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
                instance_type=self.instance_type,
                instance_count=self.instances,
            ),
            self.root,
        )

    def _done(self, endpoint: Resource, url: str, created: bool) -> Deployment:
        online = self.kind != "serverless"
        return Deployment(
            name=self.name,
            kind=self.kind,
            run=self.run.name,
            model=self.model.reference,
            state=endpoint.state,
            url=url,
            workspace=self.connection.workspace.name,
            instance_type=self.instance_type,
            instance_count=self.instances if online else 0,
            hourly=prices.hourly_words(self.instance_type or "serverless", self.instances),
            billing=prices.billing("online" if online else "serverless").words,
            created=created,
        )


def _kind(run: Run, asked: Kind | None) -> Kind:
    """How the run's model is served: as its service made it. Raises `UsageError` for what can't be."""
    target = run.plan.get("target")
    service = "local" if target is None else target["service"]
    possible: dict[str, tuple[Kind, ...]] = {
        "local": ("vllm",),
        "pipeline": ("vllm",),
        "system-pipeline": ("mlflow",),
        "finetuning-job": ("mlflow",),
        "serverless-finetuning": ("serverless",),
    }
    allowed = possible[service]
    if asked is not None and asked not in allowed:
        raise UsageError(
            f"The model of {run.name} can't be served as {asked}: it comes from {service.replace('-', ' ')}.",
            fix=f"Leave out --kind, or give {' or '.join(allowed)}.",
        )
    return asked or allowed[0]


def _require_servable(run: Run, model: RegisteredModel, kind: Kind) -> None:
    """Refuse what would fail after a quarter of an hour: vLLM on an adapter alone, MLflow's server on plain files."""
    if kind == "mlflow" and model.type != "mlflow_model":
        raise UsageError(
            f"{model.reference} is a {model.type}, and Azure's own server loads MLflow models only.",
            fix="Look at the model in Azure ML's studio.",
        )
    recipe = run.plan["recipe"]  # empty for a run that was started elsewhere
    technique, output = recipe.get("technique") or {}, recipe.get("output") or {}
    if kind == "vllm" and technique.get("name") != "full" and not output.get("merge", True):
        raise UsageError(
            f"The model of {run.name} is an adapter alone (output.merge: false), and the endpoint serves whole models.",
            fix="Set output.merge: true in the recipe and submit it again; only the package step runs anew.",
        )


def _checked_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]", name) is None:
        raise UsageError(
            f"`{name}` is no name for an endpoint.", fix="3 to 32 letters, digits and hyphens, a letter first."
        )
    return name
