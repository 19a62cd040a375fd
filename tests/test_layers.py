"""The house's rules at run time: what a command, a laptop and a node really load. (`make check` reads the imports.)"""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import azft
from azft.staging import TRAVELLING_PACKAGES, VOCABULARY

ROOT = Path(azft.__file__).parent
TRAVELS = (*VOCABULARY, *TRAVELLING_PACKAGES)
HEAVY = {"azure", "torch", "transformers", "peft", "pyarrow", "numpy", "tokenizers", "mlflow", "huggingface_hub"}


def loaded_by(code: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter holds after some code."""
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(json.loads(done.stdout.splitlines()[-1]))


def import_without(blocked: Iterable[str], modules: Iterable[str]) -> None:
    """Import modules in a fresh interpreter that does not have some packages."""
    script = (
        "import sys, importlib\n"
        f"blocked = {set(blocked)!r}\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked: raise ModuleNotFoundError(f'no {name} here', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"for module in {sorted(modules)!r}: importlib.import_module(module)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr


def modules_of(*packages: str) -> list[str]:
    """Every module of some of azft's packages (or single modules), by its full name."""
    names = []
    for package in packages:
        names.append(f"azft.{package}")
        names += [found.name for found in pkgutil.walk_packages([str(ROOT / package)], f"azft.{package}.")]
    return [name for name in names if not name.endswith("__main__")]


def test_import_azft_is_light() -> None:
    assert not loaded_by("import azft") & (HEAVY | {"pydantic", "click", "yaml"})


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_list_of_commands_loads_click_and_nothing_heavier(arguments: list[str]) -> None:
    code = f"from azft.cli.main import run; run({arguments!r})"
    assert not loaded_by(code) & (HEAVY | {"pydantic", "rich", "yaml"})


@pytest.mark.parametrize("command", ["check", "submit", "models", "chat"])
def test_the_help_of_a_command_loads_neither_torch_nor_azure(command: str) -> None:
    assert not loaded_by(f"from azft.cli.main import run; run([{command!r}, '--help'])") & HEAVY


def test_the_python_api_loads_neither_torch_nor_azure() -> None:
    assert not loaded_by("import azft.api, azft.catalog, azft.plan, azft.runs") & HEAVY


def test_what_travels_to_a_node_needs_neither_azures_sdk_nor_the_command_line() -> None:
    import_without(["azure", "click", "rich", "jmespath", "platformdirs"], modules_of(*TRAVELS))


def test_what_travels_to_a_node_needs_nothing_else_of_azft() -> None:
    code = f"import importlib\nfor module in {modules_of(*TRAVELS)!r}: importlib.import_module(module)"
    script = f"{code}\nimport sys; print(*(name for name in sys.modules if name.startswith('azft.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert {name.split(".")[1] for name in done.stdout.split()} <= set(TRAVELS)


def test_everything_but_training_runs_on_a_laptop_without_torch() -> None:
    packages = [p.stem for p in ROOT.iterdir() if (p / "__init__.py").is_file() or p.suffix == ".py"]
    wanted = [name for name in packages if name not in {"__init__", "training", "_bundled"}]
    import_without(["torch", "transformers", "peft", "accelerate", "datasets"], modules_of(*wanted))


def test_the_light_core_checks_a_recipe_and_its_data_without_any_extra(tmp_path: Path) -> None:
    """pip install azft, with none of its extras: init and check work, and say what they left out."""
    script = (
        "import sys\n"
        f"blocked = {sorted(HEAVY - {'numpy'} | {'jinja2', 'safetensors', 'accelerate', 'gguf'})!r}\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked: raise ModuleNotFoundError(f'no {name} here', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from azft.cli.main import run\n"
        f"assert run(['init', {str(tmp_path)!r}]) == 0\n"
        f"sys.exit(run(['check', {str(tmp_path / 'recipe.yaml')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_two_test_files_have_one_name() -> None:
    """There are no packages below tests/, so pytest knows a file by its name alone."""
    names = sorted(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert names == sorted(set(names))
