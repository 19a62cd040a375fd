"""The marketplace subscription that a model of another publisher than Microsoft needs before it can be served.

A subscription has no tags, so azft knows its own by their name. It bills nothing by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from azft.azureml.resources import FAILED, SUCCEEDED, Resource, Resources, settled
from azft.azureml.waiting import wait_for
from azft.errors import AzftError
from azft.files import sha256_bytes
from azft.payloads.wire import wire
from azft.pipeline import quiet_sdk

if TYPE_CHECKING:
    from azft.azureml.connection import Connection

PREFIX = "azft-"
_HALF = frozenset({"suspended", "unsubscribed"})
_VERSION = re.compile(r"/(?:versions|labels)/[^/]+$")


def ensure_subscription(
    connection: Connection, model_id: str, *, on_event: Callable[[dict[str, Any]], None] | None = None
) -> Resource:
    """The workspace's subscription to a model, made when there is none. One that somebody else made is as good.

    Accepting an offer's terms is what this does on the account's behalf, so callers say so before. Raises `AzftError`.
    """
    tell = on_event or (lambda _: None)
    resources = Resources(connection)
    model = base_model(model_id)
    for subscription in resources.all("marketplace"):
        if base_model(str(subscription.properties.get("modelId") or "")).casefold() == model.casefold():
            _require_usable(subscription)
            return subscription
    name = subscription_name(model)
    tell({"event": "marketplace", "name": name, "model": model})
    with quiet_sdk():
        from azure.ai.ml.entities import MarketplaceSubscription

        body = wire(MarketplaceSubscription(name=name, model_id=model)._to_rest_object())
    accepted, _ = settled(
        resources,
        "marketplace",
        name,
        body=body,
        is_ours=lambda found: base_model(str(found.properties.get("modelId") or "")).casefold() == model.casefold(),
        again=lambda found: found.state.lower() in FAILED,
    )
    made = wait_for(resources, accepted, tell=tell)
    _require_usable(made)
    return made


def base_model(model_id: str) -> str:
    """The model's id as subscriptions want it: without version or label."""
    return _VERSION.sub("", model_id)


def subscription_name(model: str) -> str:
    """The name that azft gives a subscription: the same for the same model, so that there is one."""
    words = re.sub(r"[^a-z0-9]+", "-", model.rpartition("/")[2].lower()).strip("-")
    return f"{PREFIX}{words[:30].strip('-')}-{sha256_bytes(model.lower().encode())[:6]}"


def _require_usable(subscription: Resource) -> None:
    status = str(subscription.properties.get("marketplaceSubscriptionStatus") or "").lower()
    if status in _HALF or subscription.state.lower() not in {SUCCEEDED, "unknown"}:
        raise AzftError(
            f"The marketplace subscription {subscription.name} is {status or subscription.state.lower()}.",
            fix="Look at it in the Azure portal (SaaS); the account's owner may have to accept the offer's terms.",
        )
