"""The emulator without a socket: whatever the `requests` library sends in this process goes to the core.

Every client that matters here (azure-core, azure-storage-blob, MSAL, mlflow) sends through `requests`. This way ten
thousand schedules take minutes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from azft.emulator.http import ConnectionCutError, Request

if TYPE_CHECKING:
    import requests

    from azft.emulator.app import Emulator


@contextmanager
def patched(emu: Emulator) -> Iterator[None]:
    """Replace the sending of `requests` until the end."""
    import requests
    from urllib3 import HTTPResponse

    original = requests.adapters.HTTPAdapter.send

    def send(
        adapter: requests.adapters.HTTPAdapter,
        prepared: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        **_: Any,
    ) -> requests.Response:
        body = _read(prepared.body)
        sent = [(name, _text(value)) for name, value in prepared.headers.items()]
        request = Request.of(str(prepared.method), str(prepared.url), sent, body)
        try:
            response = emu.handle(request)
        except ConnectionCutError:
            message = "('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))"
            raise requests.ConnectionError(message, request=prepared) from None
        patience = timeout[1] if isinstance(timeout, tuple) else timeout
        if patience is not None and response.seconds > patience:
            raise requests.ReadTimeout(f"Read timed out. (read timeout={patience})", request=prepared)
        content, headers = response.content(), response.all_headers()
        headers.setdefault("Content-Length", str(len(content)))
        raw = HTTPResponse(
            body=io.BytesIO(b"" if prepared.method == "HEAD" else content),
            headers=headers,
            status=response.status,
            preload_content=False,
            request_method=prepared.method,
            enforce_content_length=False,
        )
        return adapter.build_response(prepared, raw)

    requests.adapters.HTTPAdapter.send = send  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        requests.adapters.HTTPAdapter.send = original  # type: ignore[method-assign]


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _read(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray)):
        return bytes(body)
    if hasattr(body, "read"):
        found = body.read()
        return found.encode() if isinstance(found, str) else bytes(found)
    if isinstance(body, Iterable):
        return b"".join(body)
    raise TypeError(f"a request body of type {type(body).__name__}")
