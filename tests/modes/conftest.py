"""The toy pipeline, for every test of modes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from azft import staging
from azft.modes.local import LocalMode
from tests.helpers.toy import PACKAGE, Toy, any_folder_is_a_model, make_toy


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    made = make_toy(tmp_path / "my work")  # a space, because home folders have them
    bundled = made.folder / "bundled"
    monkeypatch.setattr(staging, "bundled", lambda name: bundled / name)
    monkeypatch.setattr(staging, "package_zip", lambda: PACKAGE)
    plan = sys.modules["azft.plan"]  # `azft.plan` is the API's function
    monkeypatch.setattr(plan, "resolve_model", any_folder_is_a_model)
    monkeypatch.setattr("azft.data_check.check_for_plan", lambda *_: ())
    monkeypatch.setenv("AZFT_TOY", str(made.control))
    monkeypatch.setenv("AZFT_TOY_BUNDLED", str(bundled))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(made.folder / "site"), str(Path(__file__).parents[2])]))
    return made


@pytest.fixture
def mode(toy: Toy) -> LocalMode:
    return LocalMode(toy.root)
