"""Clusters, the sizes of machines, and quota."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from azft.emulator import operations
from azft.emulator.http import WORKSPACE, ApiError, Request, Response, Route, not_found
from azft.emulator.settings import VmSize
from azft.emulator.workspace import resource_id, system_data

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

KIND = "compute"
CORES_IN_USE = "cores-in-use"
"""State of this kind: who holds machines -> {"family", "cores", "low_priority"}. Who runs jobs keeps it."""

LOCATION = "/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"


def find_size(emu: Emulator, name: str) -> VmSize | None:
    """A size by its name, whatever its case."""
    return next((size for size in emu.settings.vm_sizes if size.name.lower() == name.lower()), None)


def find(emu: Emulator, name: str) -> dict[str, Any] | None:
    """A cluster as the control plane shows it, or None."""
    kept = emu.state.get(KIND, name.lower())
    if kept is None:
        return None
    if kept.get("gone") is not None and emu.clock.now() >= kept["gone"]:
        emu.state.delete(KIND, name.lower())
        return None
    return _document(emu, kept)


def _document(emu: Emulator, kept: dict[str, Any]) -> dict[str, Any]:
    now = emu.clock.now()
    state = "Deleting" if kept.get("gone") is not None else "Succeeded" if now >= kept["ready"] else "Creating"
    body = kept["body"]
    given = (body.get("properties") or {}).get("properties") or {}
    scale = given.get("scaleSettings") or {}
    nodes = int(scale.get("minNodeCount") or 0) if state == "Succeeded" else 0
    inner = {
        "osType": "Linux",
        "vmPriority": "Dedicated",
        "remoteLoginPortPublicAccess": "NotSpecified",
        "enableNodePublicIp": True,
        **{name: value for name, value in given.items() if value is not None},
        "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT120S", **scale},
        "allocationState": "Steady",
        "allocationStateTransitionTime": emu.clock.timestamp(kept["created"]),
        "currentNodeCount": nodes,
        "targetNodeCount": nodes,
        "nodeStateCounts": {
            "idleNodeCount": nodes,
            "leavingNodeCount": 0,
            "preemptedNodeCount": 0,
            "preparingNodeCount": 0,
            "runningNodeCount": 0,
            "unusableNodeCount": 0,
        },
        "errors": None,
    }
    return {
        "id": f"{resource_id(emu)}/computes/{kept['name']}",
        "name": kept["name"],
        "type": "Microsoft.MachineLearningServices/workspaces/computes",
        "location": kept["location"],
        "tags": body.get("tags") or {},
        "identity": body.get("identity"),
        "systemData": system_data(emu, kept["created"]),
        "properties": {
            "computeType": "AmlCompute",
            "computeLocation": kept["location"],
            "description": (body.get("properties") or {}).get("description"),
            "disableLocalAuth": False,
            "isAttachedCompute": False,
            "createdOn": emu.clock.timestamp(kept["created"]),
            "modifiedOn": emu.clock.timestamp(kept["created"]),
            "provisioningState": state,
            "provisioningErrors": None,
            "properties": inner,
        },
    }


def get_compute(emu: Emulator, request: Request) -> Response:
    """GET a cluster."""
    found = find(emu, request.params["name"])
    if found is None:
        raise not_found(f"Compute {request.params['name']}")
    return Response(200, found)


def list_computes(emu: Emulator, request: Request) -> Response:
    """GET all clusters."""
    found = [find(emu, key) for key, _ in emu.state.list(KIND)]
    return Response(200, {"value": [item for item in found if item is not None]})


def put_compute(emu: Emulator, request: Request) -> Response:
    """PUT a cluster: created, or its scale and tags changed."""
    name, body = request.params["name"], request.json()
    if not re.fullmatch(r"[A-Za-z](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])", name):
        message = f"Compute name {name} is invalid: 2 to 32 letters, digits and hyphens, beginning with a letter."
        raise ApiError(400, "BadRequest", message)
    properties = body.get("properties") or {}
    if properties.get("computeType") != "AmlCompute":
        message = f"The emulator covers clusters (AmlCompute), not {properties.get('computeType')}."
        raise ApiError(501, "NotEmulated", message)
    size = _checked_size(emu, properties.get("properties") or {})
    before = emu.state.get(KIND, name.lower())
    now = emu.clock.now()
    if before is not None and find(emu, name) is not None:
        old = ((before["body"].get("properties") or {}).get("properties") or {}).get("vmSize", "")
        if old.lower() != size.name.lower():
            message = f"The VM size of compute {name} cannot be changed."
            raise ApiError(400, "BadRequest", message)
        kept = {**before, "body": body}
    else:
        location = str(body.get("location") or emu.settings.location).lower().replace(" ", "")
        kept = {"name": name, "created": now, "ready": now + emu.settings.provision_seconds, "body": body}
        kept |= {"location": location}
    emu.state.put(KIND, name.lower(), kept)
    waits = kept["ready"] - now
    headers = operations.begin(emu, waits) if waits > 0 else {}
    return Response(201 if kept["created"] == now else 200, _document(emu, kept), headers)


def _checked_size(emu: Emulator, properties: dict[str, Any]) -> VmSize:
    name = str(properties.get("vmSize", ""))
    size = find_size(emu, name)
    if size is None:
        message = f"The specified VM size {name} is not supported in region {emu.settings.location}."
        raise ApiError(400, "BadRequest", message, "VmSizeNotSupported")
    low_priority = str(properties.get("vmPriority", "")).lower() == "lowpriority"
    limit = quota(emu, size.family, low_priority=low_priority)
    needed = max(int((properties.get("scaleSettings") or {}).get("minNodeCount") or 0), 1) * size.vcpus
    if emu.faults.take("quota-exhausted", family=size.family, vm_size=size.name) or needed > limit:
        message = (
            f"The specified subscription has a {size.family} vCPU quota of {limit} and cannot accommodate for at least "
            f"1 requested managed compute node which maps to {size.vcpus} vCPUs."
        )
        raise ApiError(400, "BadRequest", message, "ClusterCoreQuotaReached")
    return size


def delete_compute(emu: Emulator, request: Request) -> Response:
    """DELETE a cluster."""
    name = request.params["name"].lower()
    if find(emu, name) is None:
        return Response(204)
    kept = emu.state.get(KIND, name) or {}
    emu.state.put(KIND, name, {**kept, "gone": emu.clock.now() + emu.settings.provision_seconds})
    return Response(202, None, operations.begin(emu, emu.settings.provision_seconds))


# Sizes and quota


def quota(emu: Emulator, family: str, *, low_priority: bool = False) -> int:
    """The cores that the subscription may use of a family."""
    if low_priority:
        return emu.settings.low_priority_quota
    wanted = {name.lower(): cores for name, cores in emu.settings.quota.items()}
    return wanted.get(family.lower(), emu.settings.default_quota)


def in_use(emu: Emulator, family: str, *, low_priority: bool = False) -> int:
    """The cores in use of a family: those of idle nodes and of whoever holds machines."""
    used = 0
    for _, held in emu.state.list(CORES_IN_USE):
        same = low_priority or str(held["family"]).lower() == family.lower()
        used += int(held["cores"]) if same and bool(held.get("low_priority")) == low_priority else 0
    for key, _ in emu.state.list(KIND):
        found = find(emu, key)
        inner = found["properties"]["properties"] if found else {}
        size = find_size(emu, str(inner.get("vmSize", "")))
        low = str(inner.get("vmPriority", "")).lower() == "lowpriority"
        if size is not None and low == low_priority and (low_priority or size.family.lower() == family.lower()):
            used += int(inner["currentNodeCount"]) * size.vcpus
    return used


def list_sizes(emu: Emulator, request: Request) -> Response:
    """GET the sizes of a region."""
    _checked_region(emu, request)
    found = [
        {
            "name": size.name,
            "family": size.family,
            "vCPUs": size.vcpus,
            "gpus": size.gpus,
            "osVhdSizeMB": 1047552,
            "maxResourceVolumeMB": 262144,
            "memoryGB": size.memory_gb,
            "lowPriorityCapable": size.low_priority,
            "premiumIO": True,
            "supportedComputeTypes": ["AmlCompute", "ComputeInstance"],
        }
        for size in emu.settings.vm_sizes
    ]
    return Response(200, {"value": found})


def _families(emu: Emulator) -> list[str]:
    return list(dict.fromkeys(size.family for size in emu.settings.vm_sizes))


def list_usages(emu: Emulator, request: Request) -> Response:
    """GET the use and the limit of each VM family, dedicated, and of low-priority cores in all."""
    location = _checked_region(emu, request)
    rows = [(family, f"{family} Cluster Dedicated vCPUs", False) for family in _families(emu)]
    rows.append(("LowPriority", "Total Cluster LowPriority vCPUs", True))
    found = []
    for family, words, low in rows:
        limit = quota(emu, family, low_priority=low)
        exhausted = emu.faults.active("quota-exhausted", family=family) is not None
        entry = _limit(emu, location, family, words, "usages", low=low)
        entry |= {"currentValue": limit if exhausted else in_use(emu, family, low_priority=low), "limit": limit}
        found.append({**entry, "unit": "Count"})
    return Response(200, {"value": found})


def list_quotas(emu: Emulator, request: Request) -> Response:
    """GET the limit of each VM family."""
    location = _checked_region(emu, request)
    found = [
        _limit(emu, location, family, f"{family} Cluster Dedicated vCPUs", "quotas", low=False)
        | {"limit": quota(emu, family), "unit": "Count"}
        for family in _families(emu)
    ]
    return Response(200, {"value": found})


def _limit(emu: Emulator, location: str, family: str, words: str, what: str, *, low: bool) -> dict[str, Any]:
    kind = "lowPriorityCores" if low else "dedicatedCores"
    path = (
        f"/subscriptions/{emu.settings.subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"
    )
    return {
        "id": f"{path}/{what}/{family}",
        "amlWorkspaceLocation": location,
        "type": f"Microsoft.MachineLearningServices/{'totalLowPriorityCores' if low else 'vmFamily'}/{kind}/{what}",
        "name": {"value": family, "localizedValue": words},
    }


def _checked_region(emu: Emulator, request: Request) -> str:
    location = request.params["location"].lower().replace(" ", "")
    if location not in emu.settings.regions:
        message = f"No registered resource provider found for location '{location}'."
        raise ApiError(400, "NoRegisteredProviderFound", message)
    return location


ROUTES = (
    Route("GET", WORKSPACE + "/computes", list_computes),
    Route("GET", WORKSPACE + "/computes/{name}", get_compute),
    Route("PUT", WORKSPACE + "/computes/{name}", put_compute),
    Route("DELETE", WORKSPACE + "/computes/{name}", delete_compute),
    Route("GET", LOCATION + "/vmSizes", list_sizes),
    Route("GET", LOCATION + "/usages", list_usages),
    Route("GET", LOCATION + "/quotas", list_quotas),
)
