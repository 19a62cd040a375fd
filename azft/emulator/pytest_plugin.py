"""A pytest fixture with Azure on loopback, for whoever tests against azft or against azure-ai-ml.

In a conftest.py: `pytest_plugins = ["azft.emulator.pytest_plugin"]`. Redefine `azure_emulator_settings` to change how
the emulator behaves. What trains and answers for it are azft's own stand-ins, which this names only as command lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from azft.emulator.app import Emulator
from azft.emulator.settings import Settings
from azft.execution.ranks import own_module


@pytest.fixture
def azure_emulator_settings() -> Settings:
    """The settings of the fixture `azure_emulator`."""
    return Settings(
        trainer_command=own_module("azft.rehearsal.trainer"),
        server_command=own_module("azft.rehearsal.server"),
    )


@pytest.fixture
def azure_emulator(
    azure_emulator_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    """An emulator that listens, its state in the test's folder, and the environment variables that lead to it."""
    with Emulator(tmp_path / "azure-emulator", settings=azure_emulator_settings) as emu:
        for name, value in emu.environment().items():
            monkeypatch.setenv(name, value)
        yield emu
        assert not emu.crashes, emu.crashes[0]
