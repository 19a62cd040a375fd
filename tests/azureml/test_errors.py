"""What Azure's errors become, over the real SDK's exceptions."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from azft.azureml.errors import (
    ConflictError,
    LimitError,
    MissingResourceError,
    MissingRoleError,
    ServiceError,
    ServiceUnavailableError,
    SignInError,
    read,
    retry_after,
    translate,
)
from azft.errors import ExitCode, UnreachableError, UsageError

NOW = datetime(2026, 11, 24, 8, 0, 0, tzinfo=UTC)


def http_error(status: int, body: Any = None, **headers: str) -> Exception:
    from azure.core.exceptions import HttpResponseError

    data = body if isinstance(body, bytes) else orjson.dumps(body or {})
    response = SimpleNamespace(
        status_code=status, reason="r", headers=headers, body=lambda: data, text=lambda *_: data.decode()
    )
    error = HttpResponseError(message=f"status {status}")
    error.response, error.status_code = response, status
    return error


def arm(code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "exit_code"),
    [
        (403, arm("AuthorizationFailed", "The client does not have authorization"), MissingRoleError, 4),
        (401, arm("InvalidAuthenticationToken", "no"), MissingRoleError, 4),
        (404, arm("ResourceNotFound", "no such"), MissingResourceError, 3),
        (404, arm("SubscriptionNotFound", "no such"), MissingResourceError, 3),
        (409, arm("Conflict", "taken"), ConflictError, 2),
        (409, arm("QuotaExceeded", "out of cores"), LimitError, 6),
        (400, arm("UserError", "exceeds approved standardNC Cores Quota"), LimitError, 6),
        (429, arm("TooManyRequests", "slow down"), ServiceUnavailableError, 1),
        (503, None, ServiceUnavailableError, 1),
        (400, arm("BadRequest", "odd"), ServiceError, 1),
    ],
)
def test_each_refusal_has_its_kind_and_exit_code(status: int, body: Any, kind: type, exit_code: int) -> None:
    error = translate(http_error(status, body), "Submitting the job")
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert error.message.startswith("Submitting the job failed")
    assert error.fix


def test_the_services_words_and_the_request_id_are_beneath() -> None:
    body = arm("UserError", "Bad thing", details=[{"message": "the field x"}], innerError={"code": "Immutable"})
    error = translate(http_error(400, body, **{"x-ms-request-id": "abc-1"}), "Submitting")
    assert error.fix == "Azure's words (400, UserError/Immutable, request abc-1): Bad thing the field x"


def test_azure_ml_hides_the_inner_code_in_additional_info() -> None:
    value = {"code": "Immutable", "innerError": {"code": "JobPropertyImmutable"}}
    body = arm("UserError", "exists", additionalInfo=[{"type": "InnerError", "info": {"value": value}}])
    answer = read(http_error(400, body))
    assert answer is not None
    assert answer.code == "UserError/Immutable/JobPropertyImmutable"


def test_the_missing_role_names_the_action() -> None:
    words = "does not have authorization to perform action 'Microsoft.MachineLearningServices/workspaces/jobs/write'"
    error = translate(http_error(403, arm("AuthorizationFailed", words)), "Submitting")
    assert "workspaces/jobs/write" in error.message
    assert "AzureML Data Scientist" in error.fix


@pytest.mark.parametrize(
    ("code", "words", "fix"),
    [
        ("KeyBasedAuthenticationNotPermitted", "", "Storage Blob Data Contributor"),
        ("AuthorizationPermissionMismatch", "", "Storage Blob Data Contributor"),
        ("AuthorizationFailed", "action 'x/serverlessEndpoints/write'", "Azure AI Developer"),
        ("Forbidden", "Public network access is disabled", "virtual network"),
    ],
)
def test_the_fix_names_the_role_or_the_network(code: str, words: str, fix: str) -> None:
    error = translate(http_error(403, arm(code, words)), "Uploading")
    assert isinstance(error, SignInError)
    assert fix in error.fix


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("UserError", "The model Phi-4 is not supported for fine-tuning in region swedencentral."),
        ("ModelNotSupportedInRegion", "The model x is not available for serverless deployment in swedencentral."),
    ],
)
def test_a_region_that_refuses_a_model_is_told_so(code: str, words: str) -> None:
    error = translate(http_error(400, arm(code, words)), "Submitting the job")
    assert "region" in error.message
    assert "azft plan --check-remote" in error.fix


def test_storages_errors_are_read_from_their_header() -> None:
    answer = read(http_error(403, b"<xml/>", **{"x-ms-error-code": "AuthenticationFailed", "x-ms-request-id": "r"}))
    assert answer is not None
    assert (answer.code, answer.request_id) == ("AuthenticationFailed", "r")


def test_no_secret_of_the_service_gets_through() -> None:
    words = "The url https://x/y?sv=1&sig=abcdef0123456789 and Bearer eyJhbGciOi.abcdefgh.xyz are wrong"
    error = translate(http_error(400, arm("UserError", words)), "Submitting")
    assert "abcdef0123456789" not in str(error)
    assert "eyJhbGciOi" not in str(error)


def test_a_lost_connection_is_unclear_and_says_that_nothing_is_started_twice() -> None:
    from azure.core.exceptions import ServiceResponseError

    error = translate(ServiceResponseError("Connection aborted."), "Submitting the job")
    assert isinstance(error, ServiceUnavailableError)
    assert isinstance(error, UnreachableError)
    assert error.answer is not None
    assert error.answer.unclear
    assert "nothing is started twice" in error.fix


def test_an_http_librarys_own_error_counts_as_a_lost_answer() -> None:
    import requests

    answer = read(requests.exceptions.ChunkedEncodingError("broken"))
    assert answer is not None
    assert answer.unclear


def test_the_cause_is_found_below_what_the_sdk_wraps_around_it() -> None:
    from azure.ai.ml.exceptions import MlException

    wrapped = MlException(message="wrapped", no_personal_data_message="wrapped")
    wrapped.__cause__ = http_error(409, arm("QuotaExceeded", "no cores"))
    assert isinstance(translate(wrapped, "Submitting"), LimitError)


def test_the_sdks_own_complaint_is_no_outage() -> None:
    from azure.ai.ml.exceptions import MlException

    error = MlException(message="No such file: x", no_personal_data_message="x")
    assert read(error) is None
    assert not isinstance(translate(error, "Registering"), UnreachableError)


def test_our_own_error_inside_stays_as_it_is() -> None:
    own = UsageError("wrong flag")
    around = RuntimeError("around")
    around.__cause__ = own
    assert translate(around, "Anything") is own


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"Retry-After": "Tue, 24 Nov 2026 08:00:30 GMT"}, 30.0),
        ({"Retry-After": "Tue, 24 Nov 2026 07:00:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_exit_codes_are_the_documented_ones() -> None:
    assert (SignInError.exit_code, LimitError.exit_code) == (ExitCode.SIGN_IN, ExitCode.LIMIT)
    assert MissingRoleError.exit_code is ExitCode.SIGN_IN
