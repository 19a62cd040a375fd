"""The compute cluster of a maap plan: adopted when it is there and fits, made by `--create-compute` when it isn't.

One that is made scales to 0 nodes, so it costs nothing while it is idle; `azft down` ends it. One that somebody else
made is used as it is, never changed, and never ended by azft.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from azft.azureml.errors import ConflictError, LimitError
from azft.azureml.quota import find_size, read_quota
from azft.azureml.resources import FAILED, Resource, Resources, settled
from azft.azureml.waiting import FailedResourceError, explain, wait_for
from azft.catalog.vm_sizes import find_size as size_row
from azft.errors import NotFoundError, UsageError
from azft.findings import Finding, Severity, has_errors
from azft.payloads.wire import wire
from azft.pipeline import quiet_sdk
from azft.plan import Plan, Target
from azft.tags import TAG, labels
from azft.targets.machines import CLUSTER_NAME, CLUSTER_NAME_WORDS

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

_LIMIT = 900.0


@dataclass(frozen=True)
class Cluster:
    """A compute cluster. `made` is whether this call made it; `ours` whether azft ever did."""

    name: str
    vm_size: str
    max_nodes: int
    min_nodes: int
    tier: str
    state: str
    made: bool
    ours: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def ensure_compute(
    connection: Connection,
    plan: Plan,
    *,
    create: bool = True,
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> Cluster | None:
    """The plan's cluster, checked; None for a plan without one. With `create` it is made when it isn't there.

    It is made of `vm_size`, from 0 to `max_nodes` nodes, each idle for `idle_seconds` at most.

    Raises `NotFoundError` when it isn't there and not to be made, `ConflictError` when one of this name does not fit
    the plan, `LimitError` for quota, `UsageError` when the recipe does not say what to make.
    """
    tell = on_event or (lambda _: None)
    target = _target(plan)
    name = target.compute
    if name is None:
        return None
    resources = Resources(connection)
    found = resources.get("compute", name)
    if found is not None and (found.state.lower() not in FAILED or not create):
        _require_fit(found, target)
        return _cluster(_ready(resources, found, tell), made=False)
    if not create:
        raise NotFoundError(
            f"The workspace {connection.workspace.name} has no compute cluster {name}.",
            fix="Name one that it has (modes.maap.compute), let azft make it (--create-compute), or give "
            "modes.maap.instance_types instead.",
        )
    if CLUSTER_NAME.fullmatch(name) is None:
        raise UsageError(f"`{name}` is no name for a cluster.", fix=CLUSTER_NAME_WORDS)
    size = _size(target)
    _require_quota(resources, target, size)
    tags = labels(plan.hash, plan.run_name)
    tell({"event": "compute", "name": name, "vm_size": size})
    accepted, made = settled(
        resources,
        "compute",
        name,
        body=_body(target, size, str(resources.workspace().get("location") or ""), tags),
        is_ours=lambda there: TAG in there.tags,
        again=lambda there: there.state.lower() in FAILED,
    )
    try:
        cluster = wait_for(resources, accepted, tell=tell, limit=_LIMIT)
    except FailedResourceError as error:
        raise explain(error, f"Creating the cluster {name}", f"What is left of it: azft down {plan.run_name}") from None
    _require_fit(cluster, target)
    return _cluster(cluster, made=made)


def check_compute(compute: Resource, target: Target) -> list[Finding]:
    """Whether a cluster that is there is what the plan needs: kind, size, GPUs, nodes, tier, state."""
    name = compute.name
    kind = str(compute.properties.get("computeType") or "")
    if kind != "AmlCompute":
        message = f"{name} is a {kind or 'compute of another kind'}, not a cluster."
        return [Finding("compute-kind", Severity.ERROR, message, "Name a compute cluster in modes.maap.compute.")]
    has = _settings(compute)
    found = []
    if compute.state.lower() in FAILED:
        message = f"The cluster {name} is in the state {compute.state}."
        found.append(Finding("compute-failed", Severity.ERROR, message, "Delete it, or name another."))
    if target.vm_size is not None and has.vm_size.casefold() != target.vm_size.casefold():
        message = f"The cluster {name} has {has.vm_size} nodes; the plan is for {target.vm_size}."
        fix = f"Set modes.maap.vm_size: {has.vm_size}, or name another cluster."
        found.append(Finding("compute-size", Severity.ERROR, message, fix))
    row = size_row(has.vm_size)
    if row is not None and row.gpus != target.gpus_per_node:
        message = f"Each node of {name} ({has.vm_size}) has {row.gpus} GPUs; the plan starts {target.gpus_per_node}"
        severity = Severity.ERROR if row.gpus < target.gpus_per_node else Severity.WARNING
        more = f" and vm_size: {row.name}." if row.gpus else ", or take a size with GPUs."
        fix = f"Set modes.maap.gpus_per_node: {row.gpus}{more}"
        found.append(Finding("compute-gpus", severity, f"{message} ranks on it.", fix))
    if has.max_nodes < target.nodes:
        message = f"The cluster {name} has at most {has.max_nodes} nodes; the plan needs {target.nodes}"
        fix = f"Let it have more: az ml compute update --name {name} --max-instances {target.nodes}"
        found.append(Finding("compute-nodes", Severity.ERROR, f"{message}: it would wait forever.", fix))
    if has.tier != target.tier:
        message = f"The cluster {name} is {has.tier}; the plan is for {target.tier}."
        found.append(Finding("compute-tier", Severity.ERROR, message, f"Set modes.maap.tier: {has.tier}."))
    if has.min_nodes:
        message = f"The cluster {name} never has fewer than {has.min_nodes} nodes: it bills when nothing runs."
        fix = f"To change that: az ml compute update --name {name} --min-instances 0"
        found.append(Finding("compute-always-on", Severity.WARNING, message, fix))
    return found


def _target(plan: Plan) -> Target:
    if plan.target is None:
        raise UsageError("A plan for this machine needs no cluster.", fix="Plan for Azure: --mode maap")
    return plan.target


def _most(target: Target) -> int:
    return max(target.max_nodes or target.nodes, target.nodes)


def _size(target: Target) -> str:
    size = target.vm_size or (target.instance_types[0] if target.instance_types else None)
    if size is None:
        raise UsageError(
            f"The cluster {target.compute} isn't there, and the recipe does not say of what size to make it.",
            fix="Set modes.maap.vm_size, e.g. Standard_NC24ads_A100_v4.",
        )
    row = size_row(size)
    if row is not None and row.retired is not None:
        raise UsageError(f"Azure retired {row.name} on {row.retired}.", fix=f"Take {row.successor or 'another one'}.")
    return size


def _require_quota(resources: Resources, target: Target, size: str) -> None:
    location = str(resources.workspace().get("location") or "")
    offered = find_size(resources, location, size)
    if offered is None:
        raise UsageError(f"The region {location} has no VM size {size}.", fix="Take another: modes.maap.vm_size.")
    quota = read_quota(resources, location, offered, target.nodes, low_priority=target.tier == "low-priority")
    if quota.limit is not None and quota.needed > quota.limit:
        raise LimitError(
            f"The quota in {location} never allows {target.nodes} x {offered.name}: {quota.words}.",
            fix="Ask for more (Azure portal, Quotas), or take another size, region or tier.",
        )


def _body(target: Target, size: str, location: str, tags: dict[str, str]) -> dict[str, Any]:
    with quiet_sdk():
        from azure.ai.ml.entities import AmlCompute

        assert target.compute is not None
        cluster = AmlCompute(
            name=target.compute,
            size=size,
            tier="low_priority" if target.tier == "low-priority" else "dedicated",
            min_instances=0,
            max_instances=_most(target),
            idle_time_before_scale_down=target.idle_seconds or 1200,
            location=location,
            tags=tags,
            description="Made by azft; `azft down` ends it.",
        )
        return wire(cluster._to_rest_object())


def _ready(resources: Resources, found: Resource, tell: Callable[[dict[str, Any]], None]) -> Resource:
    """One that is still being made (by another shell) is waited for."""
    from azft.azureml.resources import Accepted

    return wait_for(resources, Accepted(found), tell=tell, limit=_LIMIT)


def _require_fit(compute: Resource, target: Target) -> None:
    findings = check_compute(compute, target)
    if has_errors(findings):
        errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        raise ConflictError(
            " ".join(finding.message for finding in errors), fix="\n".join(finding.fix for finding in errors)
        )


def _settings(compute: Resource) -> Cluster:
    return _cluster(compute, made=False)


def _cluster(compute: Resource, *, made: bool) -> Cluster:
    inner = compute.properties.get("properties") or {}
    scale = inner.get("scaleSettings") or {}
    low = str(inner.get("vmPriority") or "").lower() == "lowpriority"
    return Cluster(
        name=compute.name,
        vm_size=str(inner.get("vmSize") or ""),
        max_nodes=int(scale.get("maxNodeCount") or 0),
        min_nodes=int(scale.get("minNodeCount") or 0),
        tier="low-priority" if low else "dedicated",
        state=compute.state,
        made=made,
        ours=TAG in compute.tags,
    )
