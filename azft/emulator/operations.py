"""Long-running operations as ARM has them: an address that says InProgress until the clock has gone on."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from azft.emulator.http import Request, Response, Route, not_found

if TYPE_CHECKING:
    from azft.emulator.app import Emulator

KIND = "operation"
POLL_SECONDS = 1


def begin(emu: Emulator, seconds: float, error: dict[str, Any] | None = None) -> dict[str, str]:
    """Begin one that ends in so many seconds, with an error or well; the headers that a 201 or 202 carries."""
    name = uuid.uuid4().hex
    emu.state.put(KIND, name, {"ends": emu.clock.now() + seconds, "error": error})
    where = f"{emu.url}/operations/{name}"
    return {"Azure-AsyncOperation": where, "Location": f"{where}/result", "Retry-After": str(POLL_SECONDS)}


def _ended(emu: Emulator, request: Request) -> bool:
    found = emu.state.get(KIND, request.params["operation"])
    if found is None:
        raise not_found(f"Operation {request.params['operation']}")
    return bool(emu.clock.now() >= found["ends"])


def get_status(emu: Emulator, request: Request) -> Response:
    """GET: InProgress, then Succeeded, or Failed with its error."""
    if _ended(emu, request):
        error = (emu.state.get(KIND, request.params["operation"]) or {}).get("error")
        return Response(200, {"status": "Failed", "error": error} if error else {"status": "Succeeded"})
    return Response(200, {"status": "InProgress"}, {"Retry-After": str(POLL_SECONDS)})


def get_result(emu: Emulator, request: Request) -> Response:
    """GET: 202 until it has ended, then 200."""
    if _ended(emu, request):
        return Response(200, {"status": "Succeeded"})
    return Response(202, None, {"Location": f"{emu.url}{request.path}", "Retry-After": str(POLL_SECONDS)})


ROUTES = (
    Route("GET", "/operations/{operation}", get_status),
    Route("GET", "/operations/{operation}/result", get_result),
)
