"""The documentation is true: generated pages are current, and every example on a page or in a help text runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import azft as package
from azft import api
from azft.cli.group import COMMANDS
from azft.extras import EXTRAS
from scripts.generate_docs import DOCS, pages
from tests.helpers.terminal import ROOT, azft, environment


@pytest.mark.parametrize("page", ["recipe.md", "cli.md", "azure.md"])
def test_generated_pages_are_current(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == pages()[page], "run: make docs"


def test_every_command_is_on_the_page() -> None:
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"### azft {command}\n" in page


def test_the_extras_that_doctor_knows_are_those_of_the_package() -> None:
    import tomllib

    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, (_, packages) in EXTRAS.items():
        declared = {re.split(r"[<>=\[]", line)[0] for line in optional[extra]} - {"azft"}
        assert set(packages) == declared, extra


def test_what_each_command_does_is_a_function_of_the_package() -> None:
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", page, re.MULTILINE))
    assert list(table) == list(COMMANDS)
    functions = [name for cell in table.values() for name in re.findall(r"`(\w+)`", cell)]
    assert set(functions) <= set(package.__all__)
    listed = {
        name for name in package.__all__ if name in {*api.__all__, "load_recipe", "watch", "rehearse", "rehearsal"}
    }
    assert set(functions) == listed


@pytest.mark.slow
def test_the_examples_of_the_python_page_run(tmp_path: Path) -> None:
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    for promised in re.findall(r"^# (\[\(.*|broken\.yaml.*)$", program, re.MULTILINE):
        assert promised in printed


@pytest.mark.slow
def test_the_examples_of_the_help_texts_run(tmp_path: Path) -> None:
    """In the order of the table, in one folder, with one short run: as somebody trying each of them would."""
    assert azft("init", "demo", cwd=tmp_path).code == 0
    demo = tmp_path / "demo"
    short = {
        "AZFT_RECIPE__TRAINING__MAX_STEPS": "2",
        "AZFT_RECIPE__EVALUATION__SAMPLES": "1",
        "AZFT_RECIPE__MODES__MAAP__COMPUTE": "gpu-cluster",  # somebody's own, which the sample recipe can't name
    }
    run = ""
    for command in COMMANDS:
        if command in ("outputs", "register", "deploy", "down", "emulator"):  # of runs in Azure; tests/e2e does them
            continue
        text = azft(command, "--help").out
        if command == "models":
            text = azft("models", "list", "--help").out
        for line in re.findall(r"^ +\$ (azft .*)$", text, re.MULTILINE):
            typed = re.sub(r"\b[a-z]+(?:-[a-z]+)*-[0-9a-f]{6,8}\b", run, line)
            shell = f"azft() {{ {sys.executable} -c 'from azft.cli.main import main; main()' \"$@\"; }}; {typed}"
            done = subprocess.run(
                ["/bin/sh", "-c", shell],
                cwd=demo,
                env=environment(**short),
                capture_output=True,
                text=True,
                check=False,
            )
            if "No workspace:" in done.stderr:  # it asks an account, which nobody has here; tests/e2e runs it
                continue
            assert done.returncode == 0, (line, done.stderr)
            if command == "submit":
                run = azft("runs", "--query", "[0].name", "-o", "tsv", cwd=demo).out.strip()
                assert run
