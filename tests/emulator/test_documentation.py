"""docs/emulator.md names every fault, setting, variable and route of the emulator itself, and no others."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from azft.emulator import Emulator, Settings, admin, registry
from azft.emulator.faults import NAMES

PAGE = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def named(text: str) -> set[str]:
    """The names in the first column of a section's table."""
    cells = re.findall(r"^\| ([^|]*`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_faults() -> None:
    assert named(section("Faults")) == set(NAMES)


def test_settings() -> None:
    assert named(section("Settings")) == {field.name for field in dataclasses.fields(Settings)}


def test_variables(tmp_path: Path) -> None:
    with Emulator(tmp_path) as emu:
        assert named(section("Using it")) - {"NO_PROXY"} == set(emu.environment()) - {"NO_PROXY", "no_proxy"}


def test_own_routes() -> None:
    written = " ".join(named(section("Its own routes")))
    own = [route.path for route in (*admin.ROUTES, *registry.ROUTES) if route.path.startswith("/_emulator/")]
    assert {path for path in own if path in written} == set(own)


def test_it_never_claims_to_be_azure() -> None:
    assert "**It is not Azure.**" in PAGE
