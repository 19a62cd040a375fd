from __future__ import annotations

import pytest

from azft.emulator import ApiError, Emulator, Request, Response, Route
from azft.emulator.app import all_routes
from azft.emulator.http import WORKSPACE, Router, envelope


def handler(emu: Emulator, request: Request) -> Response:
    return Response(200, dict(request.params))


def test_a_path_is_found_whatever_the_case_of_its_literals() -> None:
    router = Router([Route("GET", WORKSPACE + "/jobs/{name}", handler)])
    url = (
        "https://h/SUBSCRIPTIONS/s/resourcegroups/G/providers/microsoft.machinelearningservices/Workspaces/W/jobs/My%20Job"
        "?api-version=1&empty="
    )
    request = Request.of("get", url, [("X-Name", "v")], b'{"a": 1}')
    route, params = router.find(request)
    assert route.handler is handler
    assert params == {"subscription": "s", "group": "G", "workspace": "W", "name": "My Job"}
    assert (request.query, request.headers) == ({"api-version": "1", "empty": ""}, {"x-name": "v"})
    assert request.json() == {"a": 1}


def test_a_template_of_a_path_takes_the_rest() -> None:
    router = Router([Route("GET", "/a/{rest:path}", handler), Route("GET", "/b/{one}", handler)])
    assert router.find(Request.of("GET", "https://h/a/b/c%2Fd"))[1] == {"rest": "b/c/d"}
    with pytest.raises(ApiError):
        router.find(Request.of("GET", "https://h/b/c/d"))


def test_what_is_not_covered_says_so() -> None:
    router = Router([Route("GET", "/a", handler)])
    with pytest.raises(ApiError) as caught:
        router.find(Request.of("DELETE", "https://h/a"))
    assert (caught.value.status, caught.value.code) == (405, "MethodNotAllowed")
    with pytest.raises(ApiError) as caught:
        router.find(Request.of("GET", "https://h/nowhere"))
    assert (caught.value.status, caught.value.code) == (501, "NotEmulated")


def test_a_body_that_is_no_json_is_the_clients_error() -> None:
    with pytest.raises(ApiError) as caught:
        Request.of("PUT", "https://h/", body=b"{").json()
    assert caught.value.status == 400
    assert Request.of("PUT", "https://h/").json() == {}


def test_inner_codes_are_nested_as_azure_nests_them() -> None:
    info = envelope("UserError", "no", "Immutable/JobPropertyImmutable")["error"]["additionalInfo"]
    inner = next(item for item in info if item["type"] == "InnerError")["info"]["value"]
    assert inner == {"code": "Immutable", "innerError": {"code": "JobPropertyImmutable", "innerError": None}}


def test_no_two_routes_answer_the_same() -> None:
    known = [(route.method, route.path.lower()) for route in all_routes()]
    assert len(known) == len(set(known))


def test_every_route_below_a_workspace_asks_for_a_token() -> None:
    emu = Emulator()
    for route in all_routes():
        if route.path.startswith(WORKSPACE):
            assert route.auth == "bearer", route.path
    found = emu.handle(Request.of("GET", f"{emu.url}{WORKSPACE}"))
    assert found.status == 401
    emu.stop()
