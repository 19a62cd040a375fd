"""Tokens, by the App Service managed-identity protocol that azure-identity speaks, and the check of them.

A token is a signed JWT whose audience is the resource asked for; azure-ai-ml decodes it before it submits a job.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

from azft.emulator.http import ApiError, Request, Response, Route
from azft.emulator.settings import TENANT

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

PRINCIPAL = "00000000-0000-0000-0000-00000000000b"
CLIENT = "00000000-0000-0000-0000-00000000000c"


def issue(secret: str, audience: str, lifetime: int) -> tuple[str, int]:
    """A token for `audience` and when it expires (seconds since 1970, in the machine's own time)."""
    now = int(time.time())
    claims = {
        "aud": audience, "iss": f"https://sts.windows.net/{TENANT}/", "iat": now, "nbf": now - 300,
        "exp": now + lifetime, "tid": TENANT, "oid": PRINCIPAL, "appid": CLIENT, "idtyp": "app", "ver": "1.0",
    }  # fmt: skip
    body = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
    return f"{body}.{_sign(secret, body)}", now + lifetime


def check(secret: str, token: str) -> dict[str, Any]:
    """The claims of a token that we issued; raises `ApiError` for any other, and for one that has expired."""
    body, _, signature = token.rpartition(".")
    if not body or not hmac.compare_digest(signature, _sign(secret, body)):
        raise ApiError(401, "InvalidAuthenticationToken", "The access token is invalid.", headers=_challenge())
    claims: dict[str, Any] = json.loads(_decode(body.partition(".")[2]))
    if claims["exp"] < time.time():
        raise expired()
    return claims


def bearer(request: Request) -> str | None:
    """The token of a request's Authorization header, if it has one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" and token else None


def carries_token(request: Request) -> bool:
    """Whether a request is signed with a token: an endpoint's key is sent in the same header, and never expires."""
    return (bearer(request) or "").count(".") == 2


def require(secret: str, request: Request) -> dict[str, Any]:
    """The claims of the request's token; raises `ApiError` when there is none that counts."""
    token = bearer(request)
    if token is None:
        message = "Authentication failed. The 'Authorization' header is missing."
        raise ApiError(401, "AuthenticationFailed", message, headers=_challenge())
    return check(secret, token)


def expired() -> ApiError:
    """The answer to a token that is no longer valid."""
    message = "The access token expiry UTC time is earlier than current UTC time."
    return ApiError(401, "ExpiredAuthenticationToken", message, headers=_challenge())


def _challenge() -> dict[str, str]:
    return {"WWW-Authenticate": f'Bearer authorization_uri="https://login.windows.net/{TENANT}", error="invalid_token"'}


def get_token(emu: Emulator, request: Request) -> Response:
    """GET /identity/token?api-version=2019-08-01&resource=..."""
    if not hmac.compare_digest(request.headers.get("x-identity-header", ""), emu.identity_header):
        return Response(401, {"statusCode": 401, "message": "The X-IDENTITY-HEADER is missing or wrong."})
    audience = request.query.get("resource", "")
    if not audience:
        return Response(400, {"statusCode": 400, "message": "The query has no resource."})
    token, expires = issue(emu.secret, audience, emu.settings.token_seconds)
    reply = {
        "access_token": token,
        "client_id": CLIENT,
        "expires_on": str(expires),
        "expires_in": str(emu.settings.token_seconds),
        "resource": audience,
        "token_type": "Bearer",
    }
    return Response(200, reply)


ROUTES = (Route("GET", "/identity/token", get_token, auth="none"),)


def _encode(claims: dict[str, Any]) -> str:
    return _urlsafe(json.dumps(claims, separators=(",", ":")).encode())


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _sign(secret: str, body: str) -> str:
    return _urlsafe(hmac.new(secret.encode(), body.encode(), hashlib.sha256).digest())
