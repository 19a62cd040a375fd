from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from azft.azureml import patience
from azft.azureml.errors import LimitError, MissingRoleError, ServiceUnavailableError
from azft.azureml.patience import Clock, Patience, call, telling, using
from azft.errors import UsageError
from tests.azureml.test_errors import arm, http_error


class Time:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def now(self) -> float:
        return sum(self.slept)


@pytest.fixture
def time() -> Iterator[Time]:
    made = Time()
    with using(Clock(made.sleep, made.now)):
        yield made


def answers(*given: Any) -> Callable[[], Any]:
    """A function that raises or returns these, one a call."""
    left = list(given)

    def function() -> Any:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    function.left = left  # type: ignore[attr-defined]
    return function


def test_it_waits_longer_each_time(time: Time) -> None:
    assert call("Reading", answers(*[http_error(500)] * 4, "done")) == "done"
    assert time.slept == [0.5, 1.0, 2.0, 4.0]


def test_it_waits_as_long_as_the_service_asks(time: Time) -> None:
    throttled = http_error(429, **{"retry-after": "17"})
    assert call("Reading", answers(throttled, throttled, "done")) == "done"
    assert time.slept == [17.0, 17.0]


def test_it_gives_up_after_six_attempts(time: Time) -> None:
    function = answers(*[http_error(503)] * 9)
    with pytest.raises(ServiceUnavailableError):
        call("Reading", function)
    assert len(function.left) == 3  # type: ignore[attr-defined]


def test_it_does_not_wait_beyond_its_limit(time: Time) -> None:
    with pytest.raises(ServiceUnavailableError, match="throttling"):
        call("Reading", answers(http_error(429, **{"retry-after": "600"})))
    assert time.slept == []


def test_the_environment_sets_the_limit(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZFT_AZURE_PATIENCE", "1000")
    assert call("Reading", answers(http_error(429, **{"retry-after": "600"}), 1)) == 1
    monkeypatch.setenv("AZFT_AZURE_PATIENCE", "nonsense")
    assert patience.default_patience().limit == patience.LIMIT


def test_a_clear_refusal_is_not_tried_again(time: Time) -> None:
    function = answers(http_error(409, arm("QuotaExceeded", "")), "never")
    with pytest.raises(LimitError):
        call("Submitting", function)
    assert function.left == ["never"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_must_not_be_repeated_is_sent_once(time: Time, status: int) -> None:
    function = answers(http_error(status), "never")
    with pytest.raises(ServiceUnavailableError):
        call("Submitting", function, idempotent=False)
    assert function.left == ["never"]  # type: ignore[attr-defined]
    assert time.slept == []


class Renewed:
    def __init__(self) -> None:
        self.times = 0

    def forget(self) -> None:
        self.times += 1


def test_an_expired_token_is_renewed_once(time: Time) -> None:
    credential = Renewed()
    patience.renewable.add(credential)
    expired = http_error(401, arm("ExpiredAuthenticationToken", ""))
    assert call("Reading", answers(expired, "done")) == "done"
    assert credential.times == 1
    with pytest.raises(MissingRoleError):
        call("Reading", answers(expired, expired, "never"))
    assert time.slept == []


def test_an_untrusted_certificate_is_not_waited_out(time: Time) -> None:
    from azure.core.exceptions import ServiceRequestError

    with pytest.raises(ServiceUnavailableError) as error:
        call("Reading", answers(ServiceRequestError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get issuer"), "never"))
    assert "REQUESTS_CA_BUNDLE" in error.value.fix
    assert time.slept == []


def test_what_is_no_requests_fault_passes_through(time: Time) -> None:
    with pytest.raises(UsageError):
        call("Reading", answers(UsageError("no")))
    with pytest.raises(ZeroDivisionError):
        call("Reading", answers(ZeroDivisionError()))


def test_the_waits_never_exceed_the_longest() -> None:
    assert list(Patience(attempts=8, first=1, longest=5).waits()) == [1, 2, 4, 5, 5, 5, 5]


def test_a_wait_that_the_service_asks_for_is_told_before_it_begins(time: Time) -> None:
    told: list[tuple[float, dict[str, Any]]] = []
    answer = answers(http_error(500), http_error(429, **{"retry-after": "17"}), http_error(503), "done")
    with telling(lambda event: told.append((time.now(), event))):
        call("Reading the workspace", answer)
    wait = {"event": "waiting", "what": "Reading the workspace", "asked": True, "at_most": False}
    assert told == [  # half a second after the 500 nobody asked for, and it is not worth a line
        (0.5, {**wait, "status": 429, "seconds": 17.0}),
        (17.5, {**wait, "status": 503, "seconds": 2.0}),
    ]
