"""The workspace's resources by kind and name (endpoints, deployments, computes, marketplace, jobs), as ARM shows them.

Goes through the SDK's own pipeline (sign-in, headers) but reads ARM's JSON: the SDK's pollers print dots to standard
output and poll in a thread of their own, and its classes drop what `azft down` must see (a subscription that is still
pending breaks them). Every body that is sent comes from the SDK's entities.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from azft.azureml.errors import Answer, ConflictError, ServiceUnavailableError, SignInError
from azft.azureml.patience import Patience, call, clock, tell_wait
from azft.errors import AzftError, UsageError
from azft.tags import RUN_TAG, TAG

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

KINDS: dict[str, tuple[str, str, str]] = {
    "job": ("jobs/{0}", "2024-01-01-preview", "job"),
    "compute": ("computes/{0}", "2023-08-01-preview", "compute cluster"),
    "serverless": ("serverlessEndpoints/{0}", "2024-01-01-preview", "serverless endpoint"),
    "online": ("onlineEndpoints/{0}", "2022-02-01-preview", "online endpoint"),
    "deployment": ("onlineEndpoints/{0}/deployments/{1}", "2023-04-01-preview", "deployment"),
    "marketplace": ("marketplaceSubscriptions/{0}", "2024-01-01-preview", "marketplace subscription"),
    "model": ("models/{0}/versions/{1}", "2023-08-01-preview", "model"),
    "environment": ("environments/{0}/versions/{1}", "2023-04-01-preview", "environment"),
    "data": ("data/{0}/versions/{1}", "2023-04-01-preview", "data asset"),
    "code": ("codes/{0}/versions/{1}", "2023-04-01", "code asset"),
}
"""Kind -> its path below the workspace, the API version that azure-ai-ml 1.35 speaks for it, and its name in words."""

_SENDS = 3
_LOOKS = (0.5, 1.0, 2.0, 4.0)
"""Seconds between looks for what an unclear answer may have created."""
_LONGEST_WAIT = 60.0
_RENAME = "Give another name with --name, or end that one first."
_NO_NAME = re.compile(r"\.*|.*[\s/\\?#%].*", re.DOTALL)
_ABOVE = re.compile(r"SubscriptionNotFound|ResourceGroupNotFound|Services/workspaces/[^/']+' under resource group")
"""In a 404 that says that the workspace itself, or what it is in, isn't there."""
SUCCEEDED = "succeeded"
FAILED = frozenset({"failed", "canceled"})
"""States in which nothing more happens by itself, in lower case."""


@dataclass(frozen=True)
class Resource:
    """One resource as ARM shows it. `names` is its name, with its parent's before it."""

    kind: str
    names: tuple[str, ...]
    id: str = ""
    location: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    sku: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    created_by: str = ""

    @property
    def name(self) -> str:
        """The last of its names."""
        return self.names[-1]

    @property
    def state(self) -> str:
        """Where it stands, in the service's word: a job's status, anything else's provisioning state."""
        return str(self.properties.get("status" if self.kind == "job" else "provisioningState") or "Unknown")

    @property
    def words(self) -> str:
        """`online endpoint linden-bakery-3f2a91c0`, `model linden:3`."""
        return _words(self.kind, self.names)

    @property
    def marks(self) -> Mapping[str, str]:
        """What it says of itself: its tags, and a job's properties over them, which nobody edits in the studio."""
        noted = self.properties.get("properties") if self.kind in {"job", "model"} else None
        return {**self.tags, **(noted or {})}

    def is_of(self, run: str, plan: str) -> bool:
        """Whether it carries the tags of this run of this plan."""
        return self.tags.get(TAG) == plan and self.tags.get(RUN_TAG) == run


@dataclass(frozen=True)
class Accepted:
    """What the service said to a PUT: the resource as it stands, and where the operation's outcome can be read."""

    resource: Resource
    operation: str = ""


class Resources:
    """Reads and changes resources of one workspace. Reads are patient; a change is sent once."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        workspace = connection.workspace
        self._provider = (
            f"/subscriptions/{workspace.subscription}/resourceGroups/{workspace.resource_group}"
            "/providers/Microsoft.MachineLearningServices"
        )
        self._workspace = f"{self._provider}/workspaces/{workspace.name}"

    def workspace(self) -> dict[str, Any]:
        """The workspace's own resource."""
        return self._json("Reading the workspace", "GET", self._workspace, "2024-10-01-preview")

    def permissions(self) -> list[dict[str, Any]] | None:
        """What whoever is signed in may do in the workspace: actions, notActions. None where that can't be asked."""
        url = f"{self._workspace}/providers/Microsoft.Authorization/permissions"
        once = Patience(attempts=1)
        try:
            page = call("Asking for the roles", lambda: self._send("GET", url, "2022-04-01")[0], patience=once)
        except AzftError:
            return None
        found = (page or {}).get("value")
        return found if isinstance(found, list) else None

    def usages(self, location: str) -> list[dict[str, Any]]:
        """The subscription's quota and use in a region: name, currentValue, limit."""
        subscription = self.connection.workspace.subscription
        path = f"/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}/usages"
        return self._pages("Reading the quota", path, "2023-08-01-preview", {})

    def sizes(self, location: str) -> list[dict[str, Any]]:
        """The VM sizes of a region: name, family, vCPUs, gpus, memoryGB."""
        subscription = self.connection.workspace.subscription
        path = f"/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}/vmSizes"
        return list(self._json("Reading the VM sizes", "GET", path, "2023-08-01-preview").get("value") or [])

    def get(self, kind: str, *names: str) -> Resource | None:
        """A resource, or None when there is none of this name."""
        url, version = self._place(kind, names)
        found = call(f"Looking for the {_words(kind, names)}", lambda: self._send("GET", url, version, missing=True)[0])
        return None if found is None else _resource(kind, names, found)

    def all(self, kind: str, *parents: str, limit: int | None = None, **query: str) -> list[Resource]:
        """All resources of a kind (of a parent, where it has one); `limit`: after so many no further page is read."""
        path, version, words = KINDS[kind]
        below = path.rsplit("/", 1)[0].format(*parents)
        found = self._pages(f"Listing {words}s", f"{self._workspace}/{below}", version, query, limit)
        return [_resource(kind, (*parents, str(item["name"])), item) for item in found]

    def put(self, kind: str, *names: str, body: Mapping[str, Any]) -> Accepted:
        """Create or replace a resource. Sent once: on an unclear answer the caller looks (`settled`)."""
        what = f"Creating the {_words(kind, names)}"

        def send() -> Accepted:
            return call(what, lambda: self.send(kind, *names, body=body), idempotent=False)

        try:
            return send()
        except SignInError as error:
            if getattr(getattr(error, "answer", None), "status", None) != 401:
                raise
            return send()  # a token that expired on the way: nothing was carried out

    def send(
        self,
        kind: str,
        *names: str,
        body: Mapping[str, Any],
        version: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Accepted:
        """The one request of a PUT, with the SDK's own errors: for what settles them in another way than `put`."""
        url, usual = self._place(kind, names)
        answer, answered = self._send("PUT", url, version or usual, body=body, headers=headers)
        return Accepted(_resource(kind, names, answer or {}), answered.get("Azure-AsyncOperation") or "")

    def delete(self, kind: str, *names: str, **query: str) -> None:
        """Ask for a resource's end; one that is gone already is no error. It ends later: look with `get`."""
        url, version = self._place(kind, names)
        call(
            f"Deleting the {_words(kind, names)}",
            lambda: self._send("DELETE", url, version, missing=True, query=query),
        )

    def act(self, kind: str, *names: str, action: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """POST an action of a resource (listKeys, getLogs, cancel); all of those used here may be repeated."""
        url, version = self._place(kind, names)
        return self._json(f"Asking the {_words(kind, names)} for {action}", "POST", f"{url}/{action}", version, body)

    def outcome(self, operation: str) -> dict[str, Any]:
        """What a long operation says about itself: status, and error when it failed. Empty when it can't be read."""
        if not operation:
            return {}
        answer = call("Reading the operation's outcome", lambda: self._send("GET", operation, None, missing=True)[0])
        return answer or {}

    def _place(self, kind: str, names: tuple[str, ...]) -> tuple[str, str]:
        """A resource's address and the API version for it. What a person gave as a name leads to no other address."""
        path, version, words = KINDS[kind]
        for name in names:
            if _NO_NAME.fullmatch(name):
                raise UsageError(f"`{name}` is no name for a {words}.")
        return f"{self._workspace}/{path.format(*names)}", version

    def _json(
        self, what: str, method: str, url: str, version: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = call(what, lambda: self._send(method, url, version, body=body)[0])
        return answer or {}

    def _pages(
        self, what: str, url: str, version: str, query: Mapping[str, str], limit: int | None = None
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        following: str | None = url
        first = True
        while following and (limit is None or len(found) < limit):
            page = call(what, _page(self._send, following, version if first else None, query if first else {})) or {}
            found += page.get("value") or []
            following, first = page.get("nextLink"), False
        return found

    def _send(
        self,
        method: str,
        url: str,
        version: str | None,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        missing: bool = False,
    ) -> tuple[dict[str, Any] | None, Mapping[str, str]]:
        """One request. `missing` turns 404 and 204 into None instead of an error."""
        from azure.core.rest import HttpRequest

        parameters = {**(query or {}), **({"api-version": version} if version else {})}
        wanted = {"Accept": "application/json", **(headers or {})}
        request = HttpRequest(method, url, params=parameters, headers=wanted, json=body)
        # Any of the SDK's clients would do: they share the pipeline, and the address of the control plane.
        response = self.connection.client._service_client_01_2024_preview_arm.send_request(request)
        if missing and response.status_code == 404 and not _ABOVE.search(response.text()):
            return None, response.headers
        response.raise_for_status()
        text = response.text()
        return (json.loads(text) if text.strip() else None), response.headers


def settled(
    resources: Resources,
    kind: str,
    *names: str,
    body: Mapping[str, Any],
    is_ours: Callable[[Resource], bool],
    again: Callable[[Resource], bool] = lambda _: False,
    absent: bool = False,
) -> tuple[Accepted, bool]:
    """Have the resource of this name exist once: adopt ours, refuse another's, create it else; whether it was created.

    An unclear answer to the creation is settled by looking, and only when there is nothing to see is it sent again:
    under the same name, so that there is never a second one. `again` says of one of ours that it has to be sent once
    more (it failed); with `absent` somebody has just looked, and there is none. Raises `ConflictError` when the name is
    somebody else's, else the service's refusal.
    """
    words = _words(kind, names)
    found = None if absent else resources.get(kind, *names)
    for attempt in range(_SENDS):
        if found is not None:
            if not is_ours(found):
                raise ConflictError(f"There is a {words} already, and this run did not make it.", fix=_RENAME)
            if not again(found):
                return Accepted(found), attempt > 0
        try:
            return resources.put(kind, *names, body=body), True
        except (ServiceUnavailableError, ConflictError) as error:
            if attempt + 1 == _SENDS:
                raise
            failure: AzftError = error
            answer = error.answer or Answer()
            found = look_again(f"Making the {words}", lambda: resources.get(kind, *names), answer, _LOOKS)
            if found is None and isinstance(error, ConflictError):
                raise
    raise failure


def look_again(
    what: str, look: Callable[[], Resource | None], answer: Answer, pauses: Sequence[float]
) -> Resource | None:
    """Look, and after each pause once more, because what was just made may not be seen at once.

    `what` was being done when the service gave this `answer`, which may ask to wait before the first look. The wait is
    told before it begins.
    """
    time_is = clock()
    wait = min(answer.retry_after or 0.0, _LONGEST_WAIT)
    tell_wait(what, answer, wait + sum(pauses), at_most=True)
    if wait:
        time_is.sleep(wait)
    for pause in (*pauses, None):
        if (found := look()) is not None or pause is None:
            return found
        time_is.sleep(pause)
    return None


def _words(kind: str, names: tuple[str, ...]) -> str:
    """A resource for a person: `deployment azft`, `model linden:3`."""
    path, _, words = KINDS[kind]
    return f"{words} {':'.join(names) if '/versions/' in path else names[-1]}"


def _page(send: Callable[..., Any], url: str, version: str | None, query: Mapping[str, str]) -> Callable[[], Any]:
    return lambda: send("GET", url, version, query=query)[0]


def _resource(kind: str, names: tuple[str, ...], found: Mapping[str, Any]) -> Resource:
    return Resource(
        kind=kind,
        names=names,
        id=str(found.get("id") or ""),
        location=str(found.get("location") or ""),
        # A job's tags stand in its properties, everything else's beside them.
        tags=(found.get("tags") or (found.get("properties") or {}).get("tags") or {}),
        properties=found.get("properties") or {},
        sku=found.get("sku") or {},
        created=str((found.get("systemData") or {}).get("createdAt") or ""),
        created_by=str((found.get("systemData") or {}).get("createdBy") or ""),
    )
