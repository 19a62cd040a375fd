"""Signing in: azure-identity's credentials behind one wrapper that remembers tokens and explains failures.

Tokens live in memory only. They are remembered per scope until five minutes before they expire, because some SDK calls
ask anew each time and `az` takes a second to answer.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from azft.azureml import patience
from azft.azureml.errors import Answer, ServiceUnavailableError, SignInError, unavailable
from azft.errors import AzftError, UsageError
from azft.extras import needs
from azft.redact import redact

AUTH: dict[str, tuple[str, str, str]] = {
    "default": ("DefaultAzureCredential", "whatever is signed in here", "Sign in: az login"),
    "cli": ("AzureCliCredential", "az", "Sign in: az login (with --tenant where you have several)"),
    "env": (
        "EnvironmentCredential",
        "a service principal in the environment",
        "Set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET (or AZURE_CLIENT_CERTIFICATE_PATH).",
    ),
    "managed-identity": (
        "ManagedIdentityCredential",
        "the machine's managed identity",
        "Give this machine an identity; AZURE_CLIENT_ID names a user-assigned one.",
    ),
    "workload": (
        "WorkloadIdentityCredential",
        "a federated token, as in Kubernetes or CI",
        "Set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE.",
    ),
    "browser": ("InteractiveBrowserCredential", "a sign-in page", "Sign in on the page that opens."),
    "device-code": ("DeviceCodeCredential", "a code typed on another device", "Enter the code in time."),
}
"""`--auth` -> azure-identity's class, whose sign-in it is, and what to do when it fails."""

_WHAT = "Signing in"
_MARGIN = 300.0
_REFUSED = re.compile(r"AADSTS\d+|az login|azd auth login")
"""Signs of a sign-in that is over, and not of a service that does not answer."""
_UNREACHED = re.compile(
    r"connection (?:was )?(?:aborted|broken|closed|refused|reset)|RemoteDisconnected|NewConnectionError"
    r"|max retries exceeded|failed to (?:resolve|establish)|name resolution|name or service not known|getaddrinfo"
    r"|nodename nor servname|network is unreachable|no route to host|connect\w* time(?:d )?-?out|read timed out",
    re.IGNORECASE,
)
_METADATA = re.compile(r"IMDS|169\.254\.169\.254")
"""The address that only Azure's own machines have: anywhere else it never answers, and that says nothing."""
_HINTS = {
    "EnvironmentCredential": "set AZURE_CLIENT_ID and its companions",
    "WorkloadIdentityCredential": "set AZURE_FEDERATED_TOKEN_FILE and its companions",
    "ManagedIdentityCredential": "only on Azure's own machines",
    "AzureCliCredential": "az login",
    "AzurePowerShellCredential": "Connect-AzAccount",
    "AzureDeveloperCliCredential": "azd auth login",
}


def hush(*names: str) -> None:
    """Keep these loggers of the SDKs off a person's terminal."""
    for logger in map(logging.getLogger, names):
        if logger.level != logging.CRITICAL:  # setting a level walks through every logger of the process
            logger.setLevel(logging.CRITICAL)


def make_credential(auth: str = "default") -> Credential:
    """The credential of an `--auth` value. Raises `UsageError` for an unknown one; nothing is asked of Azure yet."""
    if auth not in AUTH:
        raise UsageError(f"Unknown --auth `{auth}`.", fix=f"There are: {', '.join(AUTH)}.")
    with needs("azure", "Signing in to Azure"):
        from azure import identity
    options: dict[str, Any] = {"exclude_interactive_browser_credential": True} if auth == "default" else {}
    if auth == "device-code":
        options["prompt_callback"] = _show_code
    hush("azure.identity")  # it warns of each failure besides raising it
    kind, waits = getattr(identity, AUTH[auth][0]), Waits()
    asks_az = auth == "cli"  # which sends nothing itself, and takes no such options
    return Credential(auth, lambda: kind(**options, **({} if asks_az else waits.options())), waits=waits)


class Credential:
    """A token credential as Azure's SDKs expect one. `auth` says which."""

    def __init__(
        self,
        auth: str,
        make: Callable[[], Any],
        *,
        clock: Callable[[], float] = time.time,
        waits: Waits | None = None,
    ) -> None:
        """`make` gives azure-identity's credential, whose waits are `waits`."""
        self.auth = auth
        self._waits = waits or Waits()
        self._make = make
        self._made: Any = None
        self._tokens: dict[tuple[str, ...], Any] = {}
        self._lock = threading.Lock()
        self._clock = clock
        self._signed_in = False
        patience.renewable.add(self)

    def get_token(self, *scopes: str, **options: Any) -> Any:
        """A token for the scopes. Raises `SignInError` that lists what was tried."""
        fresh = bool(options.get("claims"))  # Azure asks for another token than the one it got
        with self._lock:
            token = self._tokens.get(scopes)
            if fresh or token is None or token.expires_on - self._clock() < _MARGIN:
                token = self._tokens[scopes] = self._ask(scopes, options)
            return token

    def forget(self) -> None:
        """Drop the remembered tokens, and what azure-identity remembers behind them: Azure refused one."""
        with self._lock:
            self._tokens.clear()
            self._made = None

    def close(self) -> None:
        """Free what the credential holds."""
        if self._made is not None and hasattr(self._made, "close"):
            self._made.close()

    def _ask(self, scopes: tuple[str, ...], options: dict[str, Any]) -> Any:
        from azure.core.exceptions import ClientAuthenticationError

        self._waits.begin()
        try:
            if self._made is None:
                self._made = self._make()
            token = self._made.get_token(*scopes, **options)
        except AzftError:
            raise
        except (ClientAuthenticationError, ValueError) as error:  # ValueError: what it needs is not set
            self._made = None  # it remembers an outage for a minute, and would not even ask again
            if self._waits.gave_up is not None:  # a chain of credentials makes another error of it
                raise self._waits.gave_up from None
            if self._waits.answer.status == 429:
                raise unavailable(self._waits.answer, _WHAT) from None
            if is_outage(str(error)):
                raise outage_error(self.auth, str(error)) from None
            if self._signed_in and not _REFUSED.search(str(error)):
                raise ServiceUnavailableError(
                    "Signing in anew failed, although it worked a moment ago.", fix=redact(_short(str(error)))
                ) from None
            raise sign_in_error(self.auth, str(error)) from None
        self._signed_in = True
        return token


class Waits:
    """azure-identity's waits between its own attempts: told, on azft's clock, and no longer than any request's."""

    def __init__(self) -> None:
        self.answer = Answer()
        """What came back last; without a status, nothing did."""
        self.gave_up: ServiceUnavailableError | None = None
        self._deadline = 0.0

    def begin(self) -> None:
        """A token is asked for."""
        self.answer, self.gave_up = Answer(), None
        self._deadline = patience.clock().now() + patience.default_patience().limit

    def options(self) -> dict[str, Any]:
        """What azure-identity's credentials are made with."""
        from azure.core.pipeline.transport import RequestsTransport

        transport = RequestsTransport()
        transport.sleep = self.sleep
        return {"transport": transport, "raw_response_hook": self._answered}

    def sleep(self, seconds: float) -> None:
        """Wait. Raises `ServiceUnavailableError` where that would take too long."""
        time_is = patience.clock()
        if time_is.now() + seconds > self._deadline:
            self.gave_up = unavailable(self.answer, _WHAT)
            raise self.gave_up
        patience.tell_wait(_WHAT, self.answer, seconds)
        self.answer = Answer()
        time_is.sleep(seconds)

    def _answered(self, response: Any) -> None:
        self.answer = Answer(status=int(response.http_response.status_code))


def is_outage(words: str) -> bool:
    """Whether a sign-in failed because nobody could be asked; a refusal by anybody (AADSTS...) is none."""
    return "AADSTS" not in words and any(
        _UNREACHED.search(line) and not _METADATA.search(line) for line in words.splitlines()
    )


def outage_error(auth: str, words: str) -> ServiceUnavailableError:
    """The error for a sign-in that could not be asked for: signing in again would not help, the network has to."""
    said = next(line for line in words.splitlines() if _UNREACHED.search(line) and not _METADATA.search(line))
    return ServiceUnavailableError(
        f"Signing in with --auth {auth} failed: the sign-in service can't be reached.",
        fix=f"Check the network, then do the same again: nothing is started twice.\nIt said: {_short(redact(said))}",
    )


def sign_in_error(auth: str, words: str) -> SignInError:
    """The error for a sign-in that failed: what was tried, why each failed, and what to do."""
    _, whose, fix = AUTH[auth]
    tried = list(read_attempts(words)) if auth == "default" else []
    if not tried:
        return SignInError(f"Signing in with --auth {auth} ({whose}) failed.", fix=f"{fix}\n{redact(_short(words))}")
    # No colon after the name: redaction would take what follows a "...Credential:" for a secret.
    lines = [f"  {name} - {why}" + (f" ({_HINTS[name]})" if name in _HINTS else "") for name, why in tried]
    return SignInError(
        f"Nobody is signed in to Azure here; {len(tried)} ways were tried.",
        fix="\n".join([f"{fix}, or name one way with --auth ({', '.join(list(AUTH)[1:])}).", "Tried:", *lines]),
    )


def read_attempts(words: str) -> Iterator[tuple[str, str]]:
    """(credential, why it failed) for each line of azure-identity's account of a chain."""
    for line in words.splitlines():
        if match := re.match(r"\s*(\w+Credential): (.+)", line):
            yield match.group(1), _short(redact(match.group(2)))


def _short(text: str) -> str:
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first if len(first) <= 240 else f"{first[:237]}..."


def _show_code(uri: str, code: str, _expires: Any) -> None:
    """Ask for the code where a person reads: on standard error. The code is worthless once it was used."""
    import sys

    sys.stderr.write(f"To sign in, open {uri} and enter the code {code}\n")
    sys.stderr.flush()
