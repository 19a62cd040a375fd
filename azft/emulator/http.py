"""What a request and a reply are, how a path finds its handler, and the form of an error that Azure's clients read.

Synchronous and without sockets: the server and the in-process patch are two thin ways in.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

PROVIDER = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.MachineLearningServices"
WORKSPACE = PROVIDER + "/workspaces/{workspace}"
"""What every path of the workspace's control plane begins with."""
REGISTRY = PROVIDER + "/registries/{registry}"

Body = bytes | dict[str, Any] | list[Any] | None


@dataclass(frozen=True)
class Request:
    """One request, as the handlers see it. Header names are lower case; `params` are the path template's values."""

    method: str
    url: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, method: str, url: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> Request:
        """A request from a whole URL."""
        parts = urlsplit(url)
        return cls(
            method=method.upper(),
            url=url,
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in headers},
            body=body,
        )

    def json(self) -> Any:
        """The body as JSON; a body that isn't is the client's error."""
        try:
            return json.loads(self.body) if self.body else {}
        except ValueError:
            raise ApiError(400, "BadRequest", "The request's body is not JSON.") from None

    def with_params(self, params: Mapping[str, str]) -> Request:
        """The same request, its path template filled in."""
        return replace(self, params=params)


@dataclass(frozen=True)
class Response:
    """One reply: bytes go out as they are, anything else as JSON."""

    status: int = 200
    body: Body = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """How long the client waits for it, although everything is done already."""

    def content(self) -> bytes:
        """The body's bytes."""
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, separators=(",", ":")).encode()

    def all_headers(self) -> dict[str, str]:
        """The headers, with the content type that the body implies."""
        headers = dict(self.headers)
        if self.body is not None and not isinstance(self.body, bytes):
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        return headers


class ApiError(Exception):
    """An answer that is an error; `inner` is a path of inner codes, e.g. "Immutable/JobPropertyImmutable"."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        inner: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message, self.inner = status, code, message, inner
        self.headers = dict(headers or {})
        self.details = details or []

    def response(self) -> Response:
        """The reply that carries it."""
        return Response(self.status, envelope(self.code, self.message, self.inner, self.details), self.headers)


class ConnectionCutError(Exception):
    """The connection ends here, without an answer."""


def envelope(
    code: str, message: str, inner: str | None = None, details: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """An error body in the form of Azure Machine Learning's control plane."""
    correlation = {"operation": uuid.uuid4().hex, "request": uuid.uuid4().hex[:16]}
    info: list[dict[str, Any]] = [
        {"type": "ComponentName", "info": {"value": "managementfrontend"}},
        {"type": "Correlation", "info": {"value": correlation}},
    ]
    if inner:
        nested: dict[str, Any] | None = None
        for part in reversed(inner.split("/")):
            nested = {"code": part, "innerError": nested}
        info.append({"type": "InnerError", "info": {"value": nested}})
    return {"error": {"code": code, "message": message, "details": details or [], "additionalInfo": info}}


def not_found(what: str) -> ApiError:
    """The control plane's answer for a resource that isn't there."""
    return ApiError(404, "ResourceNotFound", f"{what} was not found.", "NotFoundError")


Handler = Callable[["Emulator", Request], Response]


@dataclass(frozen=True)
class Route:
    """A method and a path template; literals ignore case, as ARM does.

    `{name}` is one segment, `{name:path}` is the rest.
    """

    method: str
    path: str
    handler: Handler
    auth: Literal["bearer", "none"] = "bearer"
    """`none`: the handler looks at the credentials itself (a SAS, an endpoint's key), or needs none."""


class Router:
    """Finds a request's handler: the first route that fits, those with a `:path` last."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_length: dict[int, list[tuple[Route, re.Pattern[str]]]] = {}
        self._open: list[tuple[Route, re.Pattern[str]]] = []
        for route in routes:
            known = self._open if ":path}" in route.path else self._by_length.setdefault(route.path.count("/"), [])
            known.append((route, _compile(route.path)))

    def find(self, request: Request) -> tuple[Route, dict[str, str]]:
        """The route and the values of its template; raises `ApiError` when there is none."""
        path = request.path.rstrip("/") or "/"
        methods = set()
        for route, pattern in (*self._by_length.get(path.count("/"), ()), *self._open):
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if route.method == request.method:
                return route, match.groupdict()
            methods.add(route.method)
        if methods:
            allowed = ", ".join(sorted(methods))
            raise ApiError(405, "MethodNotAllowed", f"{request.method} is not allowed on {path}; {allowed} is.")
        raise ApiError(501, "NotEmulated", f"The emulator does not cover {request.method} {path}.")


def _compile(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(:path)?\}", template)
    pattern = re.escape(parts[0])
    for name, rest, literal in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        pattern += f"(?P<{name}>{'.+' if rest else '[^/]+'})" + re.escape(literal)
    return re.compile(pattern, re.IGNORECASE)
