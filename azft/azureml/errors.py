"""What Azure's errors mean to a person: what happened, what to do, which request it was, and the service's own words.

`read` takes any exception that comes out of Azure's SDKs apart; `translate` makes an `AzftError` of it. The table of
known refusals is here too: one row each, matched by the service's code or words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from azft.errors import AzftError, ExitCode, UnreachableError, UsageError
from azft.redact import redact


class SignInError(AzftError):
    """Nobody is signed in, or whoever is may not do this."""

    exit_code = ExitCode.SIGN_IN


class ServiceError(AzftError):
    """Azure refused a request. `answer` is what it said."""

    def __init__(self, message: str, *, fix: str = "", answer: Answer | None = None) -> None:
        super().__init__(message, fix=fix)
        self.answer = answer


class MissingRoleError(ServiceError, SignInError):
    """Signed in, but without the role that the request needs."""

    exit_code = ExitCode.SIGN_IN


class LimitError(ServiceError):
    """A quota stands in the way."""

    exit_code = ExitCode.LIMIT


class MissingResourceError(ServiceError):
    """What the request names isn't there."""

    exit_code = ExitCode.NOT_FOUND


class ServiceUnavailableError(ServiceError, UnreachableError):
    """No usable answer came. A request that changes something may have been carried out or not."""


class ConflictError(ServiceError, UsageError):
    """The name is taken by something that this plan did not start."""

    exit_code = ExitCode.USAGE


_LONGEST = 800
"""Characters of the service's words that are shown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a failed request came back with. Without a `status` no answer arrived at all."""

    status: int | None = None
    code: str = ""
    words: str = ""
    request_id: str = ""
    retry_after: float | None = None
    """Seconds that the service asks to wait."""

    @property
    def unclear(self) -> bool:
        """Whether the request may have been carried out, or may be if it is sent again."""
        if self.status is None or self.status in {408, 429} or self.status < 400:
            return True
        return self.status >= 500 and self.status != 501  # 501: it will never be implemented by trying again

    @property
    def sentence(self) -> str:
        """The service's own words with code and request id, for the end of a message."""
        where = ", ".join(
            part
            for part in (
                str(self.status or ""),
                self.code,
                f"request {self.request_id}" if self.request_id else "",
            )
            if part
        )
        said = self.words if len(self.words) <= _LONGEST else f"{self.words[:_LONGEST]}..."
        said = said or "nothing more"
        return f"Azure's words{f' ({where})' if where else ''}: {said}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A known reason for a refusal. `pattern` is looked for in "code: words"."""

    pattern: re.Pattern[str]
    kind: type[ServiceError]
    what: str
    fix: str


def _row(pattern: str, kind: type[ServiceError], what: str, fix: str) -> Refusal:
    return Refusal(re.compile(pattern, re.IGNORECASE), kind, what, fix)


REFUSALS: tuple[Refusal, ...] = (
    _row(
        r"quota|NotEnoughCores|ExceedsLimit|InsufficientCapacity|OutOfCapacity|SkuNotAvailable|insufficient.{0,20}capacity",
        LimitError,
        "A quota or the region's capacity does not allow it",
        "Ask for more quota (Azure portal, Quotas), or take another VM size or region; "
        "azft plan --check-remote shows what is used.",
    ),
    _row(
        r"KeyBasedAuthenticationNotPermitted|key based authentication is not permitted",
        MissingRoleError,
        "The storage account does not allow keys, and the identity has no role there",
        "Give yourself the role `Storage Blob Data Contributor` on the workspace's storage account.",
    ),
    _row(
        r"AuthorizationPermissionMismatch|InsufficientAccountPermissions",
        MissingRoleError,
        "The identity may not use the workspace's storage account",
        "Give yourself the role `Storage Blob Data Contributor` on it.",
    ),
    _row(
        r"public ?network ?access|not allowed by firewall|AuthorizationFailure\b|private ?(?:link|endpoint)",
        MissingRoleError,
        "The network rules of the workspace or its storage refuse this machine",
        "Run azft from inside the virtual network (or its VPN), or allow this address in the firewall.",
    ),
    _row(
        r"serverlessEndpoints/|marketplaceSubscriptions/",
        MissingRoleError,
        "The identity may not use serverless endpoints or marketplace models",
        "It needs the role `Azure AI Developer` (or Contributor) on the resource group.",
    ),
    _row(
        r"Microsoft\.Resources/deployments|Microsoft\.SaaS|Microsoft\.MarketplaceOrdering",
        MissingRoleError,
        "The identity may not subscribe to marketplace offers",
        "It needs Contributor on the subscription, or somebody who has it accepts the offer once.",
    ),
    _row(
        r"marketplace.{0,80}(?:subscri|agree|terms)|SubscriptionNotFoundForModel|offer.{0,40}not.{0,20}(?:purchas|subscrib)",
        ServiceError,
        "The model's provider asks for a marketplace subscription first",
        "azft makes it at `submit` for models that need one; your subscription must allow marketplace purchases.",
    ),
    _row(
        r"(?:model|fine.?tun\w*).{0,80}not (?:supported|available|enabled).{0,60}(?:region|location)"
        r"|(?:Supported|Available)In(?:Region|Location)|RegionNotSupported|LocationNotAvailable",
        ServiceError,
        "The workspace's region does not offer this model for this",
        "azft plan --check-remote names those that the registry lists; use a workspace in one, or --mode maap.",
    ),
    _row(
        r"SubscriptionNotFound|InvalidSubscriptionId",
        MissingResourceError,
        "The subscription is not there, or not visible to whoever is signed in",
        "Check --subscription, or sign in to its tenant: az login --tenant ...",
    ),
    _row(
        r"ResourceGroupNotFound",
        MissingResourceError,
        "The resource group is not there",
        "Check --resource-group.",
    ),
    _row(
        r"AuthorizationFailed|does not have authorization|LinkedAuthorizationFailed|Forbidden",
        MissingRoleError,
        "The identity lacks a role on the workspace",
        "It needs `AzureML Data Scientist` (or Contributor) on the workspace; who may grant it: an Owner.",
    ),
)


def translate(error: BaseException, what: str) -> AzftError:
    """The error for a person. `what` says what was being tried, as in "Submitting the job"."""
    for cause in causes(error):
        if isinstance(cause, AzftError):
            return cause
    answer = read(error)
    if answer is None:
        words = redact(str(error).strip() or type(error).__name__).splitlines()
        return ServiceError(
            f"{what} failed: {words[0]}", fix="\n".join(words[1:]) or "Add --debug to see where.", answer=None
        )
    known = find_refusal(answer)
    beneath = answer.sentence
    if answer.unclear and (known is None or known.kind is not LimitError):
        return unavailable(answer, what)
    if known is not None and (answer.status in {401, 403} or not issubclass(known.kind, MissingRoleError)):
        action = re.search(r"perform action '([^']+)'", answer.words)
        lacking = f" (for {action.group(1)})" if action and issubclass(known.kind, MissingRoleError) else ""
        return known.kind(f"{what} failed: {known.what}{lacking}.", fix=f"{known.fix}\n{beneath}", answer=answer)
    if answer.status == 401:
        fix = f"Sign in again: az login (or another --auth).\n{beneath}"
        return MissingRoleError(f"{what} failed: Azure does not accept the sign-in.", fix=fix, answer=answer)
    if answer.status == 403:
        fix = f"Ask the workspace's owner for the role `AzureML Data Scientist` or Contributor.\n{beneath}"
        return MissingRoleError(f"{what} failed: the identity may not do this.", fix=fix, answer=answer)
    if answer.status == 404:
        fix = f"Check the name, and the workspace: --workspace, --resource-group, --subscription.\n{beneath}"
        return MissingResourceError(f"{what} failed: Azure does not find it.", fix=fix, answer=answer)
    if answer.status == 409:
        return ConflictError(f"{what} failed: the name is taken, or it is being changed.", fix=beneath, answer=answer)
    return ServiceError(f"{what} failed: Azure refuses the request.", fix=beneath, answer=answer)


def unavailable(answer: Answer, what: str) -> ServiceUnavailableError:
    """The error of an answer that says nothing of what was asked for."""
    return ServiceUnavailableError(
        f"{what} failed: {_silence(answer)}.", fix=_again(answer, answer.sentence), answer=answer
    )


def find_refusal(answer: Answer) -> Refusal | None:
    """The first known reason in what the service said."""
    said = f"{answer.code}: {answer.words}"
    return next((row for row in REFUSALS if row.pattern.search(said)), None)


def read(error: BaseException) -> Answer | None:
    """What the service said, or an empty answer when none arrived; None for what did not come from a request."""
    from azure.core.exceptions import AzureError, HttpResponseError

    silent: BaseException | None = None
    for cause in causes(error):
        if isinstance(cause, HttpResponseError) and cause.response is not None:
            return _read_response(cause, cause.response)
        sdk = type(cause).__module__.startswith("azure.ai.ml")  # its own errors come from no request
        if isinstance(cause, (AzureError, ConnectionError, TimeoutError)) and not sdk:
            silent = silent or cause
    if silent is None and (lost := _lost(error)) is not None:
        silent = lost
    if silent is None:
        return None
    return Answer(words=redact(_first_line(str(silent)) or type(silent).__name__))


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and whatever it was raised from, innermost last; the SDK wraps what happened several deep."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [current.__cause__, getattr(current, "inner_exception", None), current.__context__]


def blot(error: BaseException) -> None:
    """Take secrets out of the words of an exception and of its causes: whoever prints the chain shows them all.

    The HTTP library quotes the whole address that it did not reach, with a blob's signature in it.
    """
    for cause in causes(error):
        if isinstance(cause, AzftError):
            continue
        cause.args = tuple(redact(str(part)) if isinstance(part, (str, BaseException)) else part for part in cause.args)
        for name in ("message", "exc_msg"):
            if isinstance(words := vars(cause).get(name), str):
                setattr(cause, name, redact(words))


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the answer asks to wait: milliseconds, seconds or a date; None when it says nothing usable."""
    lower = {key.lower(): value for key, value in headers.items()}
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        if (value := _number(lower.get(name))) is not None:
            return value / 1000
    given = lower.get("retry-after")
    if given is None or (seconds := _number(given)) is not None:
        return seconds if given is not None else None
    try:
        until = parsedate_to_datetime(given)
    except (TypeError, ValueError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def read_body(body: Any) -> tuple[str, str]:
    """The innermost telling code and the words of an error document (ARM's and run history's JSON alike)."""
    found = body.get("error", body) if isinstance(body, dict) else {}
    if not isinstance(found, dict):
        return "", str(found)
    codes = [str(found.get("code") or "")]
    inner = found.get("innerError") or found.get("innererror") or _additional(found, "InnerError")
    while isinstance(inner, dict):
        codes.append(str(inner.get("code") or ""))
        inner = inner.get("innerError") or inner.get("innererror")
    words = [str(found.get("message") or "").strip()]
    details = [entry for entry in found.get("details") or () if isinstance(entry, dict)]
    words += [str(entry.get("message") or "").strip() for entry in details]
    telling = [code for code in codes if code]
    return "/".join(dict.fromkeys(telling)), " ".join(dict.fromkeys(word for word in words if word))


def _additional(found: dict[str, Any], kind: str) -> Any:
    """A value that Azure Machine Learning hides in an error's additionalInfo."""
    for entry in found.get("additionalInfo") or ():
        if isinstance(entry, dict) and entry.get("type") == kind and isinstance(entry.get("info"), dict):
            return entry["info"].get("value")
    return None


def _read_response(error: Any, response: Any) -> Answer:
    headers = {str(key).lower(): str(value) for key, value in dict(getattr(response, "headers", None) or {}).items()}
    try:
        code, words = read_body(orjson.loads(response.body()))
    except Exception:  # a body that was streamed, cut off, or is no JSON: the exception's own words then
        code, words = "", ""
    code = code or headers.get("x-ms-error-code", "") or str(getattr(error, "error_code", None) or "")
    words = words or _first_line(str(getattr(error, "message", "") or error))
    request_id = next(
        (headers[name] for name in ("x-ms-request-id", "request-id", "x-ms-correlation-request-id") if name in headers),
        "",
    )
    return Answer(
        status=response.status_code,
        code=redact(code),
        words=redact(" ".join(words.split())),
        request_id=request_id,
        retry_after=retry_after(headers),
    )


def _lost(error: BaseException) -> BaseException | None:
    """An HTTP library's own exception that no SDK wrapped, which means that the answer was lost on the way."""
    for cause in causes(error):
        module = type(cause).__module__.partition(".")[0]
        if module in {"requests", "urllib3", "http", "ssl", "socket"} or isinstance(cause, EOFError):
            return cause
    return None


def _silence(answer: Answer) -> str:
    words = answer.words.lower()
    if answer.status == 429:
        return "Azure is throttling requests"
    if answer.status == 408:
        return "Azure did not answer in time"
    if answer.status is not None:
        return f"Azure's service has a fault (HTTP {answer.status})"
    if "certificate" in words:
        return "the server's certificate is not trusted"
    if any(sign in words for sign in ("name or service not known", "getaddrinfo", "name resolution", "nodename nor")):
        return "Azure's address can't be resolved"
    return "the connection to Azure broke"


def _again(answer: Answer, beneath: str) -> str:
    if "certificate" in answer.words.lower():
        return f"Behind a proxy that inspects TLS, point REQUESTS_CA_BUNDLE at its certificate.\n{beneath}"
    if answer.status is None:
        return f"Check the network, then do the same again: nothing is started twice.\n{beneath}"
    return f"Do the same again in a while: nothing is started twice.\n{beneath}"


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else None
    except ValueError:
        return None
    return value if value is not None and 0 <= value < 1e7 else None


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
