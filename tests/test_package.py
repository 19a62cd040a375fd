"""The wheel, installed outside the checkout: what it holds, what it asks for, and that it fine-tunes.

The environment is empty but for azft's wheel; torch, azure-ai-ml and the rest are borrowed from this interpreter by a
path file, because fetching them would need a network. That the wheel asks for the right ones is checked by itself.
"""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; returns its bin folder."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    bin_folder = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = [sys.executable, "-m", "pip", "--python", str(bin_folder / "python"), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)], check=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    # A folder named by a .pth file comes last on the path, and its own .pth files are not read: so the checkout, which
    # such a file makes importable here, is not found there.
    (Path(paths["purelib"]) / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return bin_folder


def run(environment: Path, folder: Path, *command: str) -> str:
    """Output of a command of the environment, run in a folder outside the checkout."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(environment / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**variables, "PATH": f"{environment}{os.pathsep}{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_what_runs_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for step in ("prepare", "finetune", "evaluate", "package"):
        assert {f"azft/_bundled/components/{step}/{file}" for file in ("component.yaml", "main.py")} <= names
    assert {"azft/py.typed", "azft/catalog/models.yaml", "azft/catalog/templates/phi-4-mini.jinja"} <= names
    assert "azft/templates/chat-completion/train.jsonl" in names
    assert any(name.startswith("azft/_bundled/environments/") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"azft"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_what_the_wheel_asks_for_is_what_the_tests_run_with(wheel: Path) -> None:
    """Every requirement of the core and of the extras train and azure is met by the packages of this environment."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        header = Parser().parsestr(archive.read(metadata).decode())
    lines = [Requirement(line) for line in header.get_all("Requires-Dist", [])]
    wanted = [*_chosen(lines, ""), *_chosen(lines, "train"), *_chosen(lines, "azure")]
    assert {"click", "torch", "tokenizers", "azure-ai-ml"} <= {requirement.name for requirement in wanted}
    assert not {"torch", "azure-ai-ml", "pyarrow"} & {requirement.name for requirement in _chosen(lines, "")}
    for requirement in wanted:
        assert importlib.metadata.version(requirement.name) in requirement.specifier, requirement


def test_every_package_that_azft_imports_is_asked_for(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        header = Parser().parsestr(archive.read(metadata).decode())
        sources = [archive.read(name) for name in archive.namelist() if name.endswith(".py")]
    asked_for = {_plain(Requirement(line).name) for line in header.get_all("Requires-Dist", [])}
    homes = dict(importlib.metadata.packages_distributions())
    imported = {name for source in sources for name in _imports(source)} - set(sys.stdlib_module_names) - {"azft"}
    homes["pydantic_core"] = ["pydantic"]  # released together, and pinned by it
    homes["mlflow"] = ["mlflow"]  # here it may come from its lighter half, mlflow-skinny
    missing = {name for name in imported if not {_plain(home) for home in homes.get(name, [name])} & asked_for}
    assert not missing


def _plain(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def _imports(source: bytes) -> Iterator[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _chosen(lines: list[Requirement], extra: str) -> Iterator[Requirement]:
    """Requirements of one extra, with those of the extras of azft that it names in turn."""
    for line in lines:
        if line.marker is None:
            chosen = extra == ""
        else:
            chosen = line.marker.evaluate({"extra": extra}) and (extra == "" or not line.marker.evaluate({"extra": ""}))
        if chosen and line.name == "azft":
            for named in line.extras:
                yield from _chosen(lines, named)
        elif chosen:
            yield line


def test_the_installed_wheel_is_what_runs(environment: Path, tmp_path: Path) -> None:
    script = "import azft, azft.staging; print(azft.__file__); print(azft.staging.bundled('components'))"
    for place in run(environment, tmp_path, "python", "-c", script).split():
        assert Path(place).is_relative_to(environment.parent)


@pytest.mark.slow
def test_a_recipe_becomes_a_tuned_model_outside_the_checkout(environment: Path, tmp_path: Path) -> None:
    run(environment, tmp_path, "azft", "init", "demo")
    settings = ["--set", "training.max_steps=4", "--set", "evaluation.samples=0"]
    events = run(
        environment, tmp_path, "azft", "submit", "demo/recipe.yaml", "--mode", "local", *settings, "-o", "json"
    )
    result: dict[str, Any] = json.loads(events.splitlines()[-1])
    assert result["state"] == "Completed", result
    (trained,) = tmp_path.glob(".azft/runs/*/outputs/trained/adapter_model.safetensors")
    assert trained.stat().st_size > 1000
