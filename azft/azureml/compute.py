"""The compute cluster that a plan names: there already, or made when the user asked for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from azft.azureml.resources import FAILED, Resource, Resources, settled, wire
from azft.azureml.waiting import wait_for
from azft.errors import NotFoundError, UsageError
from azft.pipeline import TAG, quiet_sdk
from azft.plan import Plan

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

_ASSUMED_IDLE = 1200
_RUN_TAG = "azft.run"


def ensure_compute(
    connection: Connection,
    plan: Plan,
    *,
    create: bool = False,
    on_event: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Resource | None:
    """The plan's cluster; None when the plan names none. With `create` it is made when it isn't there.

    A made one has no nodes while nothing runs, so it bills nothing then; it carries the run's tags, by which
    `azft down` finds it. Raises `NotFoundError` when it isn't there, `UsageError` when nothing says of which machines.
    """
    target = plan.target
    if target is None or target.compute is None:
        return None
    resources = Resources(connection)
    found = resources.get("compute", target.compute)
    if found is not None:
        return found
    if not create:
        raise NotFoundError(
            f"The workspace {connection.workspace.name} has no compute cluster `{target.compute}`.",
            fix="Name one that it has (modes.maap.compute), let azft make it (--create-compute), or give "
            "modes.maap.instance_types instead.",
        )
    if target.vm_size is None:
        raise UsageError(
            f"The cluster `{target.compute}` can't be made: nothing says of which machines.",
            fix="Give modes.maap.vm_size, e.g. Standard_NC24ads_A100_v4.",
        )
    on_event({"event": "compute", "name": target.compute, "vm_size": target.vm_size})
    accepted, _ = settled(
        resources,
        "compute",
        target.compute,
        body=_body(connection, plan),
        is_ours=lambda _: True,  # a cluster of this name is what the plan asks for, whoever made it
        again=lambda cluster: cluster.state.lower() in FAILED,
    )
    return wait_for(resources, accepted, tell=on_event)


def _body(connection: Connection, plan: Plan) -> dict[str, Any]:
    target = plan.target
    assert target is not None
    with quiet_sdk():
        from azure.ai.ml.entities import AmlCompute

        cluster = AmlCompute(
            name=str(target.compute),
            size=target.vm_size,
            tier="low_priority" if target.tier == "low-priority" else "dedicated",
            location=connection.location,
            min_instances=0,
            max_instances=max(target.max_nodes or 1, target.nodes),
            idle_time_before_scale_down=target.idle_seconds or _ASSUMED_IDLE,
            tags={TAG: plan.hash, _RUN_TAG: plan.run_name},
        )
        return wire(cluster._to_rest_object())
