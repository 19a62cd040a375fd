"""What holds for every test: no network, one thread, fixed seeds, and a cache of its own."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

# Set before anything imports torch or a tokenizer, and inherited by every child process.
os.environ.update(
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    PYTHONHASHSEED="0",
    NO_COLOR="1",
)
# Workers of the test run are told a width, which is not the one of a command that writes into a pipe.
for name in [n for n in os.environ if n.startswith(("AZFT_", "MLFLOW_", "AZUREML_")) or n in ("COLUMNS", "LINES")]:
    del os.environ[name]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anything but this machine is a bug in the test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family in (socket.AF_INET, socket.AF_INET6) and host not in {"127.0.0.1", "::1", "localhost"}:
            raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's model cache is neither read nor written."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("AZFT_CACHE", str(cache))
    return cache
