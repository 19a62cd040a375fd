from __future__ import annotations

import time
from typing import Any

import pytest

from azft.azureml import patience
from azft.azureml.credentials import AUTH, Credential, make_credential, read_attempts
from azft.azureml.errors import ServiceUnavailableError, SignInError
from azft.errors import ExitCode, UsageError
from azft.redact import redact
from tests.helpers.azure_shop import Azure

VARIABLES = (
    "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER", "MSI_ENDPOINT",
)  # fmt: skip
ARM = "https://management.azure.com/.default"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A machine where nobody is signed in, and no tool is there to be."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    # Azure's metadata address would be asked; here nothing leaves the machine.
    monkeypatch.setattr("azure.identity._credentials.imds._check_forbidden_response", lambda _: None, raising=False)
    monkeypatch.setattr("azft.azureml.credentials.AUTH", {**AUTH, "default": ("ChainedNobody", *AUTH["default"][1:])})

    import azure.identity

    class ChainedNobody(azure.identity.ChainedTokenCredential):
        def __init__(self, **_: Any) -> None:
            super().__init__(azure.identity.EnvironmentCredential(), azure.identity.AzureCliCredential())

    monkeypatch.setattr(azure.identity, "ChainedNobody", ChainedNobody, raising=False)


@pytest.mark.usefixtures("nobody")
def test_a_chain_that_fails_says_what_was_tried_and_why_each_failed() -> None:
    with pytest.raises(SignInError) as error:
        make_credential().get_token(ARM)
    assert error.value.exit_code is ExitCode.SIGN_IN
    assert "2 ways were tried" in error.value.message
    assert "EnvironmentCredential - EnvironmentCredential authentication unavailable" in error.value.fix
    assert "AzureCliCredential - Azure CLI not found on path (az login)" in error.value.fix
    assert "--auth" in error.value.fix
    assert redact(error.value.fix) == error.value.fix  # the last defence must not eat the reasons


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(("auth", "hint"), [("cli", "az login"), ("env", "AZURE_TENANT_ID"), ("workload", "FEDERATED")])
def test_each_way_says_what_it_needs(auth: str, hint: str) -> None:
    with pytest.raises(SignInError) as error:
        make_credential(auth).get_token(ARM)
    assert f"--auth {auth}" in error.value.message
    assert hint in error.value.fix


def test_an_unknown_way_is_named() -> None:
    with pytest.raises(UsageError, match="Unknown --auth `magic`"):
        make_credential("magic")


@pytest.mark.parametrize("auth", list(AUTH))
def test_every_way_is_a_class_that_azure_identity_has(auth: str) -> None:
    import azure.identity

    assert hasattr(azure.identity, AUTH[auth][0])


def test_the_default_never_opens_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    import azure.identity

    given: dict[str, Any] = {}
    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", lambda **options: given.update(options))
    credential = make_credential()
    with pytest.raises(AttributeError):  # there is no credential behind it, which does not matter here
        credential.get_token(ARM)
    assert given["exclude_interactive_browser_credential"] is True


class Counting:
    def __init__(self, lifetime: float = 3600) -> None:
        self.asked = 0
        self.lifetime = lifetime

    def get_token(self, *_scopes: str, **_options: Any) -> Any:
        from azure.core.credentials import AccessToken

        self.asked += 1
        return AccessToken(f"token-{self.asked}", int(time.time() + self.lifetime))


def test_a_token_is_asked_for_once_and_again_before_it_expires() -> None:
    behind = Counting()
    now = [time.time()]
    credential = Credential("default", lambda: behind, clock=lambda: now[0])
    assert credential.get_token(ARM).token == credential.get_token(ARM).token == "token-1"
    assert credential.get_token("other").token == "token-2"
    now[0] += 3400
    assert credential.get_token(ARM).token == "token-3"


def test_a_refused_token_is_forgotten() -> None:
    made = []
    credential = Credential("default", lambda: made.append(Counting()) or made[-1])
    credential.get_token(ARM)
    assert credential in set(patience.renewable)
    credential.forget()
    credential.get_token(ARM)
    assert len(made) == 2  # what azure-identity remembered is gone too


_CHAIN = (
    "DefaultAzureCredential failed to retrieve a token from the included credentials.\nAttempted credentials:\n"
    "\tEnvironmentCredential: EnvironmentCredential authentication unavailable.\n"
    "\tManagedIdentityCredential: {metadata}\n"
    "\tAzureCliCredential: {az}\n"
    "\tAzureDeveloperCliCredential: Azure Developer CLI could not be found. Please authenticate using 'azd auth login'."
)
_NO_METADATA = (
    "ManagedIdentityCredential authentication unavailable, no response from the IMDS endpoint. "
    "HTTPConnectionPool(host='169.254.169.254', port=80): Max retries exceeded"
)
_NO_NETWORK = (
    "ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: "
    "/x/oauth2/v2.0/token (Caused by NewConnectionError('[Errno -3] Temporary failure in name resolution'))"
)


class Failing:
    def __init__(self, words: str) -> None:
        self.words = words

    def get_token(self, *_scopes: str, **_options: Any) -> Any:
        from azure.core.exceptions import ClientAuthenticationError

        raise ClientAuthenticationError(message=self.words)


@pytest.mark.parametrize("words", [_NO_NETWORK, _CHAIN.format(metadata=_NO_METADATA, az=_NO_NETWORK)])
def test_without_a_network_nobody_is_told_to_sign_in(words: str) -> None:
    """An outage is no sign-in that is over: what is known is shown, and a submission may be settled later."""
    with pytest.raises(ServiceUnavailableError, match="can't be reached") as error:
        Credential("default", lambda: Failing(words)).get_token(ARM)
    assert error.value.exit_code is ExitCode.FAILURE
    assert "Check the network" in error.value.fix
    assert "login.microsoftonline.com" in error.value.fix
    assert "az login" not in error.value.fix


@pytest.mark.parametrize(
    "words",
    [
        _CHAIN.format(metadata=_NO_METADATA, az="Please run 'az login' to set up an account"),
        _CHAIN.format(metadata=_NO_METADATA, az="AADSTS700082: The refresh token has expired. Connection closed."),
    ],
)
def test_a_laptop_without_the_metadata_address_is_no_outage(words: str) -> None:
    with pytest.raises(SignInError, match="Nobody is signed in"):
        Credential("default", lambda: Failing(words)).get_token(ARM)


def test_attempts_are_read_without_their_secrets() -> None:
    words = (
        "DefaultAzureCredential failed.\nAttempted credentials:\n"
        "\tEnvironmentCredential: no account; client_secret=hunter2hunter2\nVisit https://aka.ms/x\n"
        "\tAzureCliCredential: Please run 'az login'"
    )
    attempts = dict(read_attempts(words))
    assert list(attempts) == ["EnvironmentCredential", "AzureCliCredential"]
    assert "hunter2" not in attempts["EnvironmentCredential"]


def test_a_managed_identity_gets_a_token_from_its_endpoint(azure: Azure) -> None:
    assert make_credential("managed-identity").get_token("https://ml.azure.com/.default").token.count(".") == 2
    assert len(azure.sent("GET", "/identity/token")) == 1


@pytest.mark.parametrize("auth", ["default", "managed-identity"])
def test_a_sign_in_that_is_asked_to_wait_says_so_before_it_waits(auth: str, azure: Azure) -> None:
    azure.fault("throttled", path="/identity/token", times=2, params={"retry_after": 30})
    told: list[dict[str, Any]] = []
    with patience.telling(told.append):
        assert make_credential(auth).get_token(ARM).token
    wait = {"event": "waiting", "what": "Signing in", "status": 429, "asked": True, "seconds": 30.0, "at_most": False}
    assert told == [wait, wait]
    assert azure.time.slept == [30.0, 30.0]


@pytest.mark.parametrize(("times", "seconds", "slept"), [(1, 600, []), (-1, 50, [50.0, 50.0])])
@pytest.mark.parametrize("auth", ["default", "managed-identity"])
def test_a_sign_in_waits_no_longer_than_any_other_request(
    auth: str, times: int, seconds: int, slept: list[float], azure: Azure
) -> None:
    azure.fault("throttled", path="/identity/token", times=times, params={"retry_after": seconds})
    with pytest.raises(ServiceUnavailableError, match=r"Signing in failed: Azure is throttling requests") as error:
        make_credential(auth).get_token(ARM)
    assert "az login" not in error.value.fix
    assert azure.time.slept == slept


def test_a_sign_in_that_is_throttled_to_the_end_is_an_outage(azure: Azure) -> None:
    azure.fault("throttled", path="/identity/token", times=-1, params={"retry_after": 5})
    with pytest.raises(ServiceUnavailableError, match="throttling") as error:
        make_credential().get_token(ARM)
    assert error.value.exit_code is ExitCode.FAILURE
    assert azure.time.slept == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("auth", list(AUTH))
def test_every_way_can_be_made(auth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.setenv(name, "00000000-0000-0000-0000-000000000001")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "token")
    credential = make_credential(auth)
    credential._made = credential._make()
    credential.close()


@pytest.mark.parametrize(("words", "kind"), [("no answer", ServiceUnavailableError), ("AADSTS700082", SignInError)])
def test_a_sign_in_that_worked_before_and_gets_no_answer_is_an_outage(words: str, kind: type) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    behind = Counting()
    credential = Credential("cli", lambda: behind)
    credential.get_token(ARM)

    def fail(*_: Any, **__: Any) -> Any:
        raise ClientAuthenticationError(words)

    behind.get_token = fail  # type: ignore[method-assign]
    with pytest.raises(kind):
        credential.get_token("https://ml.azure.com/.default")
