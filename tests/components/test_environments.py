"""The images have what the code that runs in them imports, in the versions that are tested here."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest

from azft.staging import COMPONENTS, TRAVELLING_PACKAGES, VOCABULARY, environment_folder

CHECKOUT = Path(__file__).parents[2]
DISTRIBUTION = {
    "PIL": "pillow",
    "liger_kernel": "liger-kernel",
    "pydantic_core": "pydantic",
    "rouge_score": "rouge-score",
    "yaml": "pyyaml",
}
"""Where a module's distribution is called otherwise."""
NOT_ON_NODES = {"gguf", "sentencepiece"}
"""Imported only where `azft models get` converts a model, on the user's machine."""


def requirements(environment: str) -> dict[str, str]:
    lines = (CHECKOUT / "environments" / environment / "requirements.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.strip(): version.strip() for name, version in pins}


def imported(*packages: str) -> set[str]:
    files = [CHECKOUT / "azft" / f"{name}.py" for name in VOCABULARY]
    files += [file for package in packages for file in (CHECKOUT / "azft" / package).rglob("*.py")]
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names.add(node.module)
    tops = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"azft"}
    return {DISTRIBUTION.get(name, name) for name in tops}


@pytest.mark.parametrize(("environment", "packages"), [("prepare", ["data"]), ("train", list(TRAVELLING_PACKAGES))])
def test_every_import_is_pinned(environment: str, packages: list[str]) -> None:
    missing = imported(*packages) - requirements(environment).keys() - NOT_ON_NODES
    assert not missing


@pytest.mark.parametrize("environment", ["prepare", "train"])
def test_pins_are_the_versions_that_the_tests_run_on(environment: str) -> None:
    for name, version in requirements(environment).items():
        try:
            installed = metadata.version(name).partition("+")[0]  # torch's CPU build has a suffix
        except metadata.PackageNotFoundError:
            continue  # the mirror of metrics is optional here
        assert installed == version, name


@pytest.mark.parametrize("environment", ["prepare", "train"])
def test_a_new_release_changes_neither_the_images_nor_what_the_tests_run_on(environment: str) -> None:
    lines = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constrained = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert requirements(environment).items() <= constrained.items()


def test_images_are_pinned_and_microsofts() -> None:
    for environment in ("prepare", "train"):
        dockerfile = (CHECKOUT / "environments" / environment / "Dockerfile").read_text()
        bases = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
        assert len(bases) == 1
        assert bases[0].startswith("mcr.microsoft.com/azureml/")
        assert ":" in bases[0].rpartition("/")[2], "a tag, so that an image that is rebuilt is the same"


def test_every_step_names_the_environment_whose_hash_is_in_the_plan() -> None:
    for step in COMPONENTS:
        text = (CHECKOUT / "components" / step / "component.yaml").read_text()
        assert f"build: {{path: ../../environments/{environment_folder(step).name}}}" in text
