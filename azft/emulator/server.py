"""The HTTPS server around the core: uvicorn in a thread.

It can do one thing that a web framework does not offer: cut a connection without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azft.emulator.http import ConnectionCutError, Request

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from azft.emulator.app import Emulator

THREADS = 64
"""Requests that are worked on at once."""


def listen(port: int) -> socket.socket:
    """A socket on loopback; port 0 takes a free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


class Server:
    """uvicorn in a thread, for as long as it is started."""

    def __init__(self, emu: Emulator, listener: socket.socket, certificate: Path, key: Path) -> None:
        import uvicorn
        from uvicorn.protocols.http.h11_impl import H11Protocol

        self._workers = ThreadPoolExecutor(THREADS, thread_name_prefix="azft-emulator-request")
        transports: dict[Any, asyncio.Transport] = {}

        class Protocol(H11Protocol):
            """As uvicorn's; says which transport belongs to which client, so that it can be cut."""

            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                # Without it every small answer waits for the client's delayed ACK: 0.84 s a submit instead of 0.25.
                raw = transport.get_extra_info("socket")
                if raw is not None:
                    with contextlib.suppress(OSError):
                        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                transports[transport.get_extra_info("peername")] = transport
                super().connection_made(transport)

            def shutdown(self) -> None:
                # A polite end of TLS would wait for every client that keeps its connection alive.
                if self.cycle is None or self.cycle.response_complete:
                    self.transport.abort()
                else:
                    super().shutdown()

            def connection_lost(self, exc: Exception | None) -> None:
                transports.pop(self.client, None)
                super().connection_lost(exc)

        config = uvicorn.Config(
            _application(emu, self._workers, transports),
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            ssl_certfile=str(certificate),
            ssl_keyfile=str(key),
            timeout_keep_alive=120,
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._listener = listener
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="azft-emulator", daemon=True)

    def start(self) -> None:
        """Return when it answers."""
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.005)
            if not self._thread.is_alive():
                raise RuntimeError("the emulator's server did not start") from self._failure

    def stop(self) -> None:
        """Return when it no longer answers."""
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._listener]))
        except BaseException as error:  # shown by start(), which waits for it
            self._failure = error


def _application(emu: Emulator, workers: ThreadPoolExecutor, transports: dict[Any, asyncio.Transport]) -> Starlette:
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect
    from starlette.requests import Request as WebRequest
    from starlette.responses import Response as WebResponse
    from starlette.routing import Route as WebRoute

    async def answer(web: WebRequest) -> WebResponse:
        try:
            body = await web.body()
        except ClientDisconnect:
            return WebResponse(status_code=400)
        # The path as it was sent: signatures are over it, and a blob's name may hold an escaped character.
        raw = web.scope["raw_path"].decode("ascii") + ("?" + web.url.query if web.url.query else "")
        request = Request.of(web.method, emu.url + raw, web.headers.items(), body)
        try:
            response = await asyncio.get_running_loop().run_in_executor(workers, emu.handle, request)
        except ConnectionCutError:
            transport = transports.get(web.client and tuple(web.client))
            if transport is not None:
                transport.abort()
            return WebResponse(status_code=500)
        until = asyncio.get_running_loop().time() + response.seconds
        while (left := until - asyncio.get_running_loop().time()) > 0 and not emu.stopping.is_set():
            await asyncio.sleep(min(left, 0.1))
        headers, content = response.all_headers(), response.content()
        made = WebResponse(b"" if web.method == "HEAD" else content, response.status)
        for name, value in headers.items():
            made.headers[name] = value
        if web.method == "HEAD":
            made.headers["content-length"] = headers.get("Content-Length", str(len(content)))
        return made

    class Endpoint:
        """A raw ASGI endpoint: takes every method."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            response = await answer(WebRequest(scope, receive))
            await response(scope, receive, send)

    return Starlette(routes=[WebRoute("/{path:path}", Endpoint())])
