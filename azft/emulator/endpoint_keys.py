"""The two keys of an endpoint, and whether a request carries one of them."""

from __future__ import annotations

import hmac
import secrets

from azft.emulator.http import ApiError, Request
from azft.emulator.state import Document


def new_keys() -> dict[str, str]:
    """Two fresh keys, as listKeys answers them."""
    return {"primaryKey": secrets.token_urlsafe(24), "secondaryKey": secrets.token_urlsafe(24)}


def regenerated(keys: dict[str, str], body: dict[str, str]) -> dict[str, str]:
    """The keys with the one that the body names made anew."""
    which = str(body.get("keyType", "")).lower()
    if which not in {"primary", "secondary"}:
        raise ApiError(400, "BadRequest", "keyType must be Primary or Secondary.")
    return {**keys, f"{which}Key": secrets.token_urlsafe(24)}


def require_key(endpoint: Document, request: Request) -> None:
    """Raise `ApiError` unless the request's Authorization is a key of the endpoint, with or without Bearer."""
    given = request.headers.get("authorization", "") or request.headers.get("api-key", "")
    given = given.removeprefix("Bearer ").removeprefix("bearer ").strip()
    keys = endpoint["keys"].values()
    if not given or not any(hmac.compare_digest(given.encode(), key.encode()) for key in keys):
        raise ApiError(401, "Unauthorized", "Invalid credentials: please check the key of the endpoint.")
