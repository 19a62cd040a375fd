from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from azft.emulator import Emulator, Fault, Settings, identity
from azft.emulator.faults import ALWAYS, HOOK_FAULTS, NAMES, REQUEST_FAULTS, Faults
from azft.emulator.state import State
from azft.emulator.storage_access import sas_url

WORKSPACE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/azft/providers"
    "/Microsoft.MachineLearningServices/workspaces/azft-rehearsal"
)
DATA = WORKSPACE + "/data/d/versions/1"
BODY = {"properties": {"dataUri": "azureml://datastores/workspaceblobstore/paths/x", "dataType": "uri_file"}}


@pytest.fixture
def emu() -> Iterator[Emulator]:
    emulator = Emulator(settings=Settings(executor="none"))
    with emulator.in_process():
        yield emulator
    emulator.stop()
    assert emulator.crashes == []


def ask(emu: Emulator, method: str, path: str, body: Any = None, **options: Any) -> requests.Response:
    token, _ = identity.issue(emu.secret, "https://management.azure.com", 3600)
    headers = {"Authorization": f"Bearer {token}"}
    data = None if body is None else json.dumps(body)
    return requests.request(method, emu.url + path, headers=headers, data=data, **{"timeout": 10, **options})


# The engine


def test_a_fault_waits_for_its_moment_and_strikes_as_often_as_it_should() -> None:
    faults = Faults(State(None))
    faults.add("throttled", method="PUT", path="/jobs/", after=1, times=2)
    moment = {"method": "PUT", "path": "/x/jobs/j"}
    assert faults.take("throttled", method="GET", path="/x/jobs/j") is None
    assert faults.take("throttled", method="PUT", path="/x/data/j") is None
    assert faults.take("server-error", **moment) is None
    assert [faults.take("throttled", **moment) is not None for _ in range(4)] == [False, True, True, False]


def test_a_fault_for_a_job_looks_at_what_the_moment_is() -> None:
    faults = Faults(State(None))
    faults.add(Fault("node-preempted", where={"step": "finetune"}, params={"step": 12}))
    assert faults.take("node-preempted", step="prepare", job="j") is None
    taken = faults.take("node-preempted", step="finetune", job="j")
    assert taken is not None
    assert taken.number("step", 0) == 12
    assert faults.take("node-preempted", step="finetune", job="j") is None


def test_a_lasting_fault_lasts_until_it_is_removed() -> None:
    faults = Faults(State(None))
    faults.add("storage-keys-disabled", times=ALWAYS)
    faults.add("throttled")
    assert all(faults.take("storage-keys-disabled") for _ in range(5))
    assert faults.active("storage-keys-disabled")
    faults.clear("storage-keys-disabled")
    assert not faults.active("storage-keys-disabled")
    assert faults.active("throttled")


def test_looking_does_not_count() -> None:
    faults = Faults(State(None))
    faults.add("quota-exhausted")
    assert faults.active("quota-exhausted")
    assert faults.active("quota-exhausted")
    assert faults.take("quota-exhausted")
    assert not faults.active("quota-exhausted")


def test_faults_survive_a_restart(tmp_path: Any) -> None:
    before = Faults(State(tmp_path))
    before.add("slow", times=3, params={"seconds": 1})
    before.take("slow")
    assert [fault["times"] for fault in Faults(State(tmp_path)).list()] == [2]


def test_a_fault_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="throttled"):
        Fault("trottled")
    with pytest.raises(re.error):
        Fault("slow", path="(")


def test_every_fault_of_the_documentation_has_a_name() -> None:
    assert set(NAMES) == {
        "throttled", "server-error", "connection-reset", "slow", "answer-lost", "token-expired", "not-visible-yet",
        "storage-keys-disabled", "quota-exhausted", "region-refuses-model", "node-preempted", "image-build-failed",
        "body-normalised",
    }  # fmt: skip
    assert not set(REQUEST_FAULTS) & set(HOOK_FAULTS)


# What a client sees


def test_throttled_says_when_to_come_back_and_applies_nothing(emu: Emulator) -> None:
    emu.faults.add("throttled", method="PUT", params={"retry_after": 7})
    found = ask(emu, "PUT", DATA, BODY)
    assert (found.status_code, found.headers["Retry-After"]) == (429, "7")
    assert found.json()["error"]["code"] == "TooManyRequests"
    assert ask(emu, "GET", DATA).status_code == 404
    assert ask(emu, "PUT", DATA, BODY).status_code == 201


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_server_error_has_the_status_that_was_asked_for(emu: Emulator, status: int) -> None:
    emu.faults.add("server-error", params={"status": status})
    assert ask(emu, "PUT", DATA, BODY).status_code == status
    assert ask(emu, "GET", DATA).status_code == 404


def test_a_reset_applies_nothing_and_a_lost_answer_everything(emu: Emulator) -> None:
    emu.faults.add("connection-reset", method="PUT")
    with pytest.raises(requests.ConnectionError):
        ask(emu, "PUT", DATA, BODY)
    assert ask(emu, "GET", DATA).status_code == 404
    emu.faults.add("answer-lost", method="PUT")
    with pytest.raises(requests.ConnectionError):
        ask(emu, "PUT", DATA, BODY)
    assert ask(emu, "GET", DATA).status_code == 200
    assert [entry["status"] for entry in emu.log.list()] == [None, 404, None, 200]


def test_a_slow_answer_comes_too_late_for_an_impatient_client(emu: Emulator) -> None:
    emu.faults.add("slow", times=2, params={"seconds": 30})
    with pytest.raises(requests.ReadTimeout):
        ask(emu, "PUT", DATA, BODY, timeout=10)
    assert ask(emu, "GET", DATA, timeout=60).status_code == 200  # it was applied; a patient client gets its answer


def test_an_expired_token_is_told_apart_from_a_wrong_one(emu: Emulator) -> None:
    emu.faults.add("token-expired")
    found = ask(emu, "GET", WORKSPACE)
    assert (found.status_code, found.json()["error"]["code"]) == (401, "ExpiredAuthenticationToken")
    assert ask(emu, "GET", WORKSPACE).status_code == 200


def test_what_was_created_is_not_visible_yet(emu: Emulator) -> None:
    emu.clock.manual = True
    emu.faults.add("not-visible-yet")
    assert ask(emu, "PUT", DATA, BODY).status_code == 201
    assert ask(emu, "GET", DATA).status_code == 404
    assert ask(emu, "GET", DATA.rsplit("/", 1)[0]).json()["value"] == []
    assert ask(emu, "PUT", DATA, BODY).status_code == 200  # it is there all the same
    emu.clock.advance(emu.settings.visible_seconds)
    assert ask(emu, "GET", DATA).status_code == 200
    assert len(ask(emu, "GET", DATA.rsplit("/", 1)[0]).json()["value"]) == 1


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("throttled", 503, "ServerBusy"), ("server-error", 500, "InternalError"), ("token-expired", 401, None)],
)
def test_storage_answers_faults_in_its_own_form(emu: Emulator, fault: str, status: int, code: str | None) -> None:
    emu.faults.add(fault, path="/azftrehearsal/")
    found = requests.put(
        sas_url(emu, "x", permissions="cw"), data=b"1", timeout=10, headers={"Authorization": "Bearer a.b.c"}
    )
    assert found.status_code == status
    assert found.headers["x-ms-error-code"] == (code or "InvalidAuthenticationInfo")
    assert found.content.startswith(b"<?xml")


def test_the_routes_of_the_emulator_itself_never_fail(emu: Emulator) -> None:
    emu.faults.add("connection-reset", times=ALWAYS)
    assert requests.get(f"{emu.url}/_emulator/health", timeout=10).status_code == 200
    assert requests.delete(f"{emu.url}/_emulator/faults", timeout=10).status_code == 204
    assert ask(emu, "GET", WORKSPACE).status_code == 200


def test_a_lost_answer_counts_every_request_that_fits_whatever_its_answer(emu: Emulator) -> None:
    emu.faults.add("answer-lost", after=1)
    assert ask(emu, "GET", DATA).status_code == 404
    with pytest.raises(requests.ConnectionError):
        ask(emu, "GET", DATA)


def test_an_update_hides_nothing_that_could_be_seen_before(emu: Emulator) -> None:
    ask(emu, "PUT", DATA, BODY)
    emu.faults.add("not-visible-yet")
    assert ask(emu, "PUT", DATA, BODY).status_code == 200
    assert ask(emu, "GET", DATA).status_code == 200


def test_a_failure_of_the_emulator_is_told_apart_from_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    emulator = Emulator()
    monkeypatch.setattr(emulator.state, "get", lambda *_: 1 / 0)
    with emulator.in_process():
        found = ask(emulator, "GET", DATA)
    assert (found.status_code, found.json()["error"]["code"]) == (500, "EmulatorFailed")
    assert "ZeroDivisionError" in emulator.crashes[0]
    emulator.stop()
