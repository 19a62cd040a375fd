from __future__ import annotations

from collections.abc import Iterator

import pytest

from azft.emulator import Emulator, Settings
from tests.helpers import azure_sdk


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator without a socket, to which Microsoft's clients are led; nothing is executed in it."""
    emulator = Emulator(settings=Settings(executor="none"))
    with emulator.in_process():
        azure_sdk.lead(emulator, monkeypatch)
        yield emulator
    emulator.stop()
    assert emulator.crashes == []


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator that listens, over TLS, to which Microsoft's clients are led; nothing is executed in it."""
    with Emulator(settings=Settings(executor="none")) as emulator:
        azure_sdk.lead(emulator, monkeypatch)
        yield emulator
    assert emulator.crashes == []
