from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

from azft.emulator import ApiError, Emulator, identity

PATH = "/subscriptions/00000000-0000-0000-0000-000000000000/providers/Microsoft.MachineLearningServices/workspaces"


@pytest.mark.parametrize("credential", [ManagedIdentityCredential, DefaultAzureCredential])
@pytest.mark.parametrize(
    "audience", ["https://ml.azure.com", "https://management.azure.com", "https://storage.azure.com"]
)
def test_a_token_is_for_what_was_asked(core: Emulator, credential: Any, audience: str) -> None:
    found = credential().get_token(f"{audience}/.default")
    claims = jwt.decode(found.token, options={"verify_signature": False})
    assert claims["aud"] == audience
    assert found.expires_on == pytest.approx(time.time() + core.settings.token_seconds, abs=5)


def test_the_endpoint_asks_for_its_header(core: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "guessed")
    with pytest.raises(ClientAuthenticationError):
        ManagedIdentityCredential().get_token("https://ml.azure.com/.default")


def get(emu: Emulator, authorization: str | None) -> requests.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return requests.get(emu.url + PATH, headers=headers, timeout=10)


def test_only_our_tokens_count(core: Emulator) -> None:
    good, _ = identity.issue(core.secret, "https://management.azure.com", 60)
    assert get(core, f"Bearer {good}").status_code == 200
    forged, _ = identity.issue("another secret", "https://management.azure.com", 60)
    head, claims, _ = good.split(".")
    for token in (forged, f"{head}.{claims}.", f"{head}.{claims}", "x.y.z", ""):
        found = get(core, f"Bearer {token}")
        assert found.status_code == 401, token
        assert found.headers["WWW-Authenticate"].startswith("Bearer ")
    assert get(core, None).json()["error"]["code"] == "AuthenticationFailed"
    assert get(core, f"Basic {good}").status_code == 401


def test_a_token_ends(core: Emulator) -> None:
    old, _ = identity.issue(core.secret, "https://management.azure.com", -1)
    assert get(core, f"Bearer {old}").json()["error"]["code"] == "ExpiredAuthenticationToken"
    with pytest.raises(ApiError):
        identity.check(core.secret, old)
