"""docs/data-checks.md says what the table of rules says."""

from __future__ import annotations

import runpy
from pathlib import Path

from azft.data.rules import RULES

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    page = runpy.run_path(str(ROOT / "scripts" / "data_checks_page.py"))["page"]()
    written = (ROOT / "docs" / "data-checks.md").read_text(encoding="utf-8")
    assert written == page, "run: python scripts/data_checks_page.py"


def test_every_rule_is_on_the_page_with_a_reason() -> None:
    page = (ROOT / "docs" / "data-checks.md").read_text(encoding="utf-8")
    for code, rule in RULES.items():
        assert f"| `data-{code}` |" in page
        assert rule.why.endswith(".")
