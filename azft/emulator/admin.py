"""The routes of the emulator itself, under /_emulator/: what a test or a rehearsal sets and reads. No part of Azure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azft.emulator.faults import Fault
from azft.emulator.http import ApiError, Request, Response, Route

if TYPE_CHECKING:
    from azft.emulator.app import Emulator


def health(emu: Emulator, request: Request) -> Response:
    """GET /_emulator/health."""
    state = {"status": "ready", "url": emu.url, "time": emu.clock.timestamp(), "manual": emu.clock.manual}
    return Response(200, state)


def get_requests(emu: Emulator, request: Request) -> Response:
    """GET the log of requests, oldest first."""
    return Response(200, {"requests": emu.log.list()})


def delete_requests(emu: Emulator, request: Request) -> Response:
    """DELETE the log."""
    emu.log.clear()
    return Response(204)


def get_faults(emu: Emulator, request: Request) -> Response:
    """GET the faults that wait."""
    return Response(200, {"faults": emu.faults.list()})


def put_faults(emu: Emulator, request: Request) -> Response:
    """PUT {"faults": [{"name", "method", "path", "times", "after", "where", "params"}]}: replaces all."""
    try:
        emu.faults.set([Fault(**item) for item in request.json()["faults"]])
    except (KeyError, TypeError, ValueError) as error:
        raise ApiError(400, "BadRequest", str(error)) from None
    return get_faults(emu, request)


def delete_faults(emu: Emulator, request: Request) -> Response:
    """DELETE all faults, or those of ?name=."""
    emu.faults.clear(request.query.get("name"))
    return Response(204)


def put_clock(emu: Emulator, request: Request) -> Response:
    """PUT {"manual": bool, "advance": seconds}, both optional."""
    body = request.json()
    if "manual" in body:
        emu.clock.manual = bool(body["manual"])
    if "advance" in body:
        emu.clock.advance(float(body["advance"]))
    return Response(200, {"now": emu.clock.now(), "time": emu.clock.timestamp(), "manual": emu.clock.manual})


def get_settings(emu: Emulator, request: Request) -> Response:
    """GET the settings."""
    return Response(200, emu.settings.to_dict())


def put_settings(emu: Emulator, request: Request) -> Response:
    """PUT the fields that shall change."""
    try:
        emu.settings = emu.settings.changed(request.json())
    except (TypeError, ValueError) as error:
        raise ApiError(400, "BadRequest", str(error)) from None
    return get_settings(emu, request)


ROUTES = (
    Route("GET", "/_emulator/health", health, auth="none"),
    Route("GET", "/_emulator/requests", get_requests, auth="none"),
    Route("DELETE", "/_emulator/requests", delete_requests, auth="none"),
    Route("GET", "/_emulator/faults", get_faults, auth="none"),
    Route("PUT", "/_emulator/faults", put_faults, auth="none"),
    Route("DELETE", "/_emulator/faults", delete_faults, auth="none"),
    Route("PUT", "/_emulator/clock", put_clock, auth="none"),
    Route("GET", "/_emulator/settings", get_settings, auth="none"),
    Route("PUT", "/_emulator/settings", put_settings, auth="none"),
)
