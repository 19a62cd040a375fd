"""The emulator itself: the table of its modules, the way of a request through it, starting and stopping."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import socket
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

from filelock import FileLock, Timeout

from azft.emulator import identity, job_states, server
from azft.emulator.certificate import ensure_certificate
from azft.emulator.clock import Clock
from azft.emulator.faults import Faults
from azft.emulator.http import ApiError, ConnectionCutError, Request, Response, Route, Router, not_found
from azft.emulator.log import RequestLog
from azft.emulator.settings import ACCOUNT, Settings
from azft.emulator.state import State
from azft.emulator.storage_access import StorageError
from azft.emulator.workspace import check_workspace

MODULES = (
    "admin",
    "identity",
    "workspace",
    "storage",
    "datastores",
    "asset_routes",
    "registry",
    "compute",
    "operations",
    "jobs",
    "history",
    "run_artifacts",
    "mlflow_api",
    "marketplace",
    "serverless_endpoints",
    "online_endpoints",
    "online_deployments",
    "inference",
)
"""Each has `ROUTES`; the first route that fits a request answers it."""

Part = TypeVar("Part", bound=contextlib.AbstractContextManager[Any])

_log = logging.getLogger(__name__)

IN_PROCESS_URL = "https://127.0.0.1:1"
"""The address when there is no socket: nothing listens there, and nothing needs to."""


REGISTRY_PREFIX = "/mferp/managementfrontend/"
"""What azure-ai-ml puts before a registry's paths."""


def all_routes() -> list[Route]:
    """The routes of all modules."""
    found: list[Route] = []
    for name in MODULES:
        found += importlib.import_module(f"azft.emulator.{name}").ROUTES
    return found


@cache
def _router() -> Router:
    """One for all emulators of the process: compiling the templates takes longer than all the rest of a start."""
    return Router(all_routes())


class EmulatorBusyError(Exception):
    """Another emulator uses the folder, or something else the port."""


def _lock(root: Path) -> FileLock:
    """Take the folder for this process; two emulators on one state would run every job twice."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds the secret that signs tokens
    lock = FileLock(root / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise EmulatorBusyError(f"An emulator that runs already keeps its state in {root}.") from None
    return lock


class Emulator:
    """Azure on loopback.

    Use it as a context manager to listen (`with Emulator(root) as emu: emu.environment()`), or call `in_process()` to
    answer the `requests` library without a socket. Without a root, everything is forgotten at the end.
    """

    def __init__(self, root: Path | None = None, *, settings: Settings | None = None, port: int | None = None) -> None:
        self.settings = settings or Settings()
        root = None if root is None else root.absolute()
        self._lock = None if root is None else _lock(root)
        self.state = State(root)
        self.clock = Clock(self.state)
        self.faults = Faults(self.state)
        self.log = RequestLog()
        self.url = IN_PROCESS_URL
        self._port = port
        self._server: server.Server | None = None
        self._certificate: Path | None = None
        self._router = _router()
        self._parts: dict[Callable[[Emulator], Any], contextlib.AbstractContextManager[Any]] = {}
        self._parts_lock = threading.Lock()
        self._hidden = {path: float(found["until"]) for path, found in self.state.list("hidden")}
        self.crashes: list[str] = []
        """Tracebacks of the emulator's own failures; empty unless it has a bug."""
        self.stopping = threading.Event()
        """Set when it ends: whatever runs in a thread of its own looks at it."""
        kept = self.state.get("emulator", "emulator")
        if kept is None:
            kept = {"secret": secrets.token_hex(32), "header": secrets.token_hex(16), "created": self.clock.now()}
            self.state.put("emulator", "emulator", kept)
        self.secret: str = kept["secret"]
        self.identity_header: str = kept["header"]
        self.created: float = kept["created"]

    # Starting and stopping

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Listen on loopback; on the same port as last time, when it is free."""
        self._certificate, key = ensure_certificate(self.state.root)
        listener = self._listen()
        port = listener.getsockname()[1]
        self.state.put("emulator", "port", {"port": port})
        self.url = f"https://127.0.0.1:{port}"
        self._server = server.Server(self, listener, self._certificate, key)
        self._server.start()
        job_states.resume(self)

    def stop(self) -> None:
        """Stop listening, end what was started, let go of the state."""
        self.stopping.set()
        if self._server is not None:
            self._server.stop()
            self._server = None
        for part in reversed(list(self._parts.values())):
            part.__exit__(None, None, None)
        self.state.close()
        if self._lock is not None:
            self._lock.release()

    def part(self, kind: Callable[[Emulator], Part]) -> Part:
        """This emulator's one `kind` (its threads, its child processes), made when first asked for; it ends with it."""
        with self._parts_lock:
            if kind not in self._parts:
                self._parts[kind] = kind(self)
            return cast("Part", self._parts[kind])

    def _listen(self) -> socket.socket:
        if self._port is not None:
            try:
                return server.listen(self._port)
            except OSError as error:
                raise EmulatorBusyError(f"Cannot listen on port {self._port}: {error.strerror}.") from None
        kept = self.state.get("emulator", "port")
        if kept is not None:
            with contextlib.suppress(OSError):
                return server.listen(int(kept["port"]))
        return server.listen(0)

    # What clients need

    def environment(self) -> dict[str, str]:
        """The environment variables with which Azure's clients find this instead of Azure."""
        found = {
            "AZFT_AZURE_ENDPOINT": self.url,
            "IDENTITY_ENDPOINT": f"{self.url}/identity/token",
            "IDENTITY_HEADER": self.identity_header,
            "AZURE_SUBSCRIPTION_ID": self.settings.subscription,
            "AZURE_RESOURCE_GROUP": self.settings.resource_group,
            "AZUREML_WORKSPACE_NAME": self.settings.workspace,
            "AZURE_ML_DISABLE_ON_DISK_CACHE": "true",
        }
        if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
            known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
            without = ",".join(filter(None, (known, "127.0.0.1,localhost")))
            found |= {"NO_PROXY": without, "no_proxy": without}
        if self._certificate is not None:
            found |= dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(self._certificate))
        return found

    def blob_path(self, account: str, container: str, path: str = "") -> Path:
        """Where a blob (or a folder of blobs, or a container) is on disk."""
        base = self.state.root / "blobs" / account / container
        found = base / path.strip("/")
        if ".." in Path(path).parts or not found.is_relative_to(base):
            raise ApiError(400, "InvalidUri", "The requested URI does not represent any resource on the server.")
        return found

    @contextlib.contextmanager
    def in_process(self) -> Iterator[Emulator]:
        """Answer everything that the `requests` library sends in this process, without a socket."""
        from azft.emulator.in_process import patched

        with patched(self):
            yield self

    # The way of a request

    def handle(self, request: Request) -> Response:
        """Answer a request. Raises `ConnectionCutError` when a fault cuts the connection instead."""
        request = _normalise(request)
        try:
            response = self._answer(request)
        except ConnectionCutError:
            self.log.add(request, None, 0)
            raise
        headers = {"x-ms-request-id": str(uuid.uuid4()), "x-ms-correlation-request-id": str(uuid.uuid4())}
        response = replace(response, headers={**headers, **response.headers})
        if not request.path.startswith("/_emulator/"):
            self.log.add(request, response.status, 0 if request.method == "HEAD" else len(response.content()))
        return response

    def _answer(self, request: Request) -> Response:
        own = request.path.startswith("/_emulator/")
        try:
            if not own:
                self._fault_before(request)
        except ApiError as error:
            return error.response()
        response = self._serve(request)
        if own:
            return response
        moment = {"method": request.method, "path": request.path}
        if self.faults.take("answer-lost", **moment):
            raise ConnectionCutError
        if fault := self.faults.take("slow", **moment):
            response = replace(response, seconds=fault.number("seconds", 5))
        return response

    def _serve(self, request: Request) -> Response:
        """The answer as it is without faults."""
        try:
            route, params = self._router.find(request)
            if route.auth == "bearer":
                identity.require(self.secret, request)
            request = request.with_params(params)
            if "workspace" in params:
                check_workspace(self, request)
            if request.method == "GET" and self.hidden(request.path):
                raise not_found(f"The resource {request.path.rsplit('/', 1)[-1]}")
            response = route.handler(self, request)
        except ApiError as error:
            return error.response()
        except Exception as error:
            # Told apart from a fault that was asked for: a test that meets one looks at `crashes`.
            self.crashes.append(f"{request.method} {request.path}: {traceback.format_exc()}")
            _log.exception("The emulator failed at %s %s", request.method, request.path)
            return ApiError(500, "EmulatorFailed", f"A fault of the emulator itself: {error!r}").response()
        if request.method == "PUT" and response.status == 201 and not _is_storage(request):
            self._hide(request)  # storage is never behind its last write
        return response

    def hidden(self, path: str) -> bool:
        """Whether the fault `not-visible-yet` still hides what was created at this path; for lists."""
        until = self._hidden.get(path.lower())
        return until is not None and self.clock.now() < until

    def _hide(self, request: Request) -> None:
        if self.faults.take("not-visible-yet", method=request.method, path=request.path):
            until = self.clock.now() + self.settings.visible_seconds
            self._hidden[request.path.lower()] = until
            self.state.put("hidden", request.path.lower(), {"until": until})

    def _fault_before(self, request: Request) -> None:
        """Raise what a waiting fault makes of this request, before anything is applied."""
        storage = _is_storage(request)
        moment = {"method": request.method, "path": request.path}
        if self.faults.take("connection-reset", **moment):
            raise ConnectionCutError
        if fault := self.faults.take("throttled", **moment):
            wait = f"{fault.number('retry_after', 1):g}"
            headers = {"Retry-After": wait}
            if storage:
                raise StorageError(503, "ServerBusy", "The server is busy.", headers=headers)
            message = "Too many requests. Please retry after some time."
            raise ApiError(429, "TooManyRequests", message, headers=headers)
        if fault := self.faults.take("server-error", **moment):
            status = int(fault.number("status", 500))
            if storage:
                raise StorageError(status, "InternalError", "Server encountered an internal error.")
            code = {408: "RequestTimeout", 502: "BadGateway", 503: "ServiceUnavailable", 504: "GatewayTimeout"}
            raise ApiError(status, code.get(status, "InternalServerError"), "The service had an error of its own.")
        if identity.carries_token(request) and self.faults.take("token-expired", **moment):
            if storage:
                raise StorageError(
                    401, "InvalidAuthenticationInfo", "Lifetime validation failed. The token is expired."
                )
            raise identity.expired()


def _is_storage(request: Request) -> bool:
    return request.path.startswith(f"/{ACCOUNT}/")


def _normalise(request: Request) -> Request:
    """Blob addresses by host (`account.blob...`) become addresses by path; registries lose a prefix."""
    host = request.url.split("/")[2] if "//" in request.url else ""
    path = request.path
    if host.lower().startswith(f"{ACCOUNT}.blob."):
        path = f"/{ACCOUNT}{path}"
    elif path.lower().startswith(f"/{ACCOUNT}.blob."):
        path = f"/{ACCOUNT}/" + path[1:].partition("/")[2]
    elif path.lower().startswith(REGISTRY_PREFIX):
        path = path[len(REGISTRY_PREFIX) - 1 :]
    return request if path == request.path else replace(request, path=path)
