"""What a step's processes are started with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import azft
from azft.execution.ranks import own_module, step_environment


def test_a_worker_of_azfts_is_this_very_azft_though_a_step_inherits_no_python_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source checkout that isn't installed, beside another azft that is."""
    package = tmp_path / "a checkout" / "azft"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "worker.py").write_text("print(__file__)")
    monkeypatch.setattr(azft, "__file__", str(package / "__init__.py"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "the user's own"))
    environment = step_environment({}, processes=1)
    assert "PYTHONPATH" not in environment
    done = subprocess.run(
        own_module("azft.worker"), env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{package / 'worker.py'}\n"
