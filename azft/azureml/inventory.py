"""Everything that azft started in a workspace and that still exists, from the workspace's own tags.

Nothing without azft's tags is ever listed, and only what is listed is ever ended (`ending`). A marketplace subscription
has no tags; azft's are known by their name.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from azft.azureml.marketplace import PREFIX as SUBSCRIPTION_PREFIX
from azft.azureml.resources import FAILED, KINDS, Resource, Resources
from azft.azureml.workspace import Workspace
from azft.catalog import prices
from azft.tags import MODEL_TAG, RUN_TAG, TAG

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

Kind = Literal["job", "serverless", "online", "compute", "marketplace"]
ENDED = frozenset({"completed", "failed", "canceled"})
"""States of a job that costs nothing more, in lower case."""
_WAITING = frozenset({"notstarted", "queued", "paused"})
"""States of a job that has no machine yet."""


@dataclass(frozen=True)
class Item:
    """One thing that azft started. `bills` is whether it costs something as it stands."""

    kind: Kind
    name: str
    run: str
    state: str
    detail: str
    """What it is: a model, instances, nodes."""
    bills: bool
    billing: str
    """How, in words."""
    hourly: str
    """What an hour costs, where somebody said so; empty when nothing bills by the hour."""
    created: str
    workspace: str
    resource: Resource
    """As ARM shows it."""
    place: Workspace

    @property
    def words(self) -> str:
        """`online endpoint linden-bakery-3f2a91c0`."""
        return f"{KINDS[self.kind][2]} {self.name}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        data = asdict(self)
        del data["resource"], data["place"]
        return data

    def matches(self, name: str) -> bool:
        """Whether a person means this by a name: its own, or its run's (or the start of it)."""
        return name == self.name or (bool(self.run) and self.run.startswith(name))


@dataclass(frozen=True)
class Inventory:
    """What a workspace has of azft's: what exists, and the runs that it knows of at all."""

    items: tuple[Item, ...]
    runs: frozenset[str]


def read_inventory(connection: Connection) -> Inventory:
    """Look at every kind of thing that azft starts. Raises `AzftError` when the workspace can't be asked.

    All or nothing: a list with a gap would say that nothing bills where something does.
    """
    resources = Resources(connection)
    place = connection.workspace
    jobs = [job for job in resources.all("job", tag=TAG) if TAG in job.tags]
    items = [_job(job, place) for job in jobs if job.state.lower() not in ENDED]
    items += [_serverless(found, place) for found in resources.all("serverless") if TAG in found.tags]
    for endpoint in resources.all("online"):
        if TAG in endpoint.tags:
            items.append(_online(endpoint, resources.all("deployment", endpoint.name), place))
    items += [_compute(found, place) for found in resources.all("compute") if TAG in found.tags]
    for found in resources.all("marketplace"):
        if found.name.startswith(SUBSCRIPTION_PREFIX):
            items.append(_subscription(found, place))
    runs = {str(job.marks.get(RUN_TAG) or job.name) for job in jobs} | {item.run for item in items if item.run}
    return Inventory(tuple(items), frozenset(runs))


def _job(job: Resource, place: Workspace) -> Item:
    what = str(job.properties.get("jobType") or "job")
    return _item(job, place, str(job.properties.get("displayName") or what), bills=job.state.lower() not in _WAITING)


def _serverless(endpoint: Resource, place: Workspace) -> Item:
    model = endpoint.tags.get(MODEL_TAG) or _last_names(
        str((endpoint.properties.get("modelSettings") or {}).get("modelId") or "")
    )
    bills = endpoint.state.lower() not in FAILED
    return _item(endpoint, place, f"model {model}", bills=bills, hourly=prices.hourly_words("serverless"))


def _online(endpoint: Resource, deployments: list[Resource], place: Workspace) -> Item:
    """An endpoint alone costs nothing; each deployment behind it does, one that failed perhaps too."""
    parts, costs = [], []
    for deployment in deployments:
        size, count = str(deployment.properties.get("instanceType") or "?"), int(deployment.sku.get("capacity") or 1)
        state = "" if deployment.state.lower() == "succeeded" else f" ({deployment.state})"
        parts.append(f"{count} x {size}{state}")
        costs.append(prices.hourly_words(size, count))
    model = endpoint.tags.get(MODEL_TAG, "")
    detail = ", ".join([*([f"model {model}"] if model else []), *(parts or ["no deployment"])])
    return _item(endpoint, place, detail, bills=bool(deployments), hourly="; ".join(dict.fromkeys(costs)))


def _compute(compute: Resource, place: Workspace) -> Item:
    inner = compute.properties.get("properties") or {}
    scale = inner.get("scaleSettings") or {}
    size = str(inner.get("vmSize") or "?")
    nodes = int(inner.get("currentNodeCount") or 0)
    least = int(scale.get("minNodeCount") or 0)
    detail = f"{nodes} of at most {scale.get('maxNodeCount', '?')} x {size} up"
    if least:
        detail += f", never fewer than {least}"
    cost = prices.hourly_words(size, nodes) if nodes else ""
    return _item(compute, place, detail, bills=nodes > 0 or least > 0, hourly=cost)


def _subscription(found: Resource, place: Workspace) -> Item:
    model = _last_names(str(found.properties.get("modelId") or ""))
    status = str(found.properties.get("marketplaceSubscriptionStatus") or "")
    return _item(found, place, f"model {model}{f', {status.lower()}' if status else ''}", bills=False)


def _item(resource: Resource, place: Workspace, detail: str, *, bills: bool, hourly: str = "") -> Item:
    kind: Any = resource.kind
    return Item(
        kind=kind,
        name=resource.name,
        run=str(resource.marks.get(RUN_TAG) or (resource.name if kind == "job" else "")),
        state=resource.state,
        detail=detail,
        bills=bills,
        billing=prices.billing(kind).words,
        hourly=hourly if bills else "",
        created=resource.created,
        workspace=place.name,
        resource=resource,
        place=place,
    )


def _last_names(model_id: str) -> str:
    """The model's name and version at the end of an id."""
    name = model_id.partition("/models/")[2] or model_id
    return name.replace("/versions/", ":").replace("/labels/", "@")
