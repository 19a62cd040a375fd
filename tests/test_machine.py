"""`azft doctor`'s eyes: what is missing is named with its pip line; odd systems don't break it."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from azft import machine
from azft.errors import MissingDependencyError
from azft.extras import needs


def test_this_machine_can_be_described() -> None:
    found = machine.inspect_machine()
    assert found.cores >= 1
    assert found.to_dict()["ready"] is found.ready


def test_missing_packages_are_named_with_the_line_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in {"torch", "mlflow"}:
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(machine, "version", version)
    found = machine.inspect_machine()
    by_code = {finding.code: finding for finding in found.findings}
    assert not found.ready
    assert by_code["machine-no-train"].severity == "warning"
    assert "pip install 'azft[train]'" in by_code["machine-no-train"].fix
    assert by_code["machine-no-mlflow"].severity == "info"
    assert "machine-no-data" not in by_code


def test_gpus_are_read_from_the_drivers_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, 80GB HBM3, 81559'\necho '[N/A], [N/A]'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert machine.inspect_machine().gpus == (machine.Gpu("NVIDIA H100, 80GB HBM3", 81559),)


@pytest.mark.parametrize("gpus", [(), (machine.Gpu("NVIDIA A100", 81920),)])
def test_what_only_a_gpu_can_use_is_missed_only_beside_one(
    gpus: tuple[machine.Gpu, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name == "liger-kernel":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(machine, "version", version)
    monkeypatch.setattr(machine, "_gpus", lambda: gpus)
    found = machine.inspect_machine()
    assert ("machine-no-kernels" in {finding.code for finding in found.findings}) == bool(gpus)
    assert next(extra for extra in found.extras if extra.name == "kernels").missing == ("liger-kernel",)


def test_a_driver_that_does_not_answer_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("nvidia-smi", 5)

    monkeypatch.setattr(machine.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(machine.subprocess, "run", hang)
    assert machine.inspect_machine().gpus == ()


def test_a_cache_that_does_not_exist_yet_is_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AZFT_CACHE", str(tmp_path / "a" / "b"))
    found = machine.inspect_machine()
    assert found.cache_free is not None
    assert "machine-cache-read-only" not in {finding.code for finding in found.findings}


def test_a_missing_package_is_told_from_a_fault_of_ours() -> None:
    with pytest.raises(MissingDependencyError, match="no_such_package") as caught, needs("train", "Chat"):
        import no_such_package  # noqa: F401
    assert "azft[train]" in caught.value.fix
    with pytest.raises(ModuleNotFoundError), needs("train", "Chat"):
        import azft.no_such_module  # noqa: F401
