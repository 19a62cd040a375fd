"""What a narrow terminal does to tables and facts: names and paths stay whole, because they are copied."""

from __future__ import annotations

import io
import itertools

import pytest
from rich.console import Console, RenderableType

from azft.cli import views
from azft.findings import Finding, Severity

NAME = "linden-bakery-summaries-3f2a91c0"
COLUMNS = ("run", "state", "mode", "started", "before", "after")
ROWS = [(NAME, "Completed", "local", "2026-11-24 03:40", "6.812", "1.402"), ("b-1", "Queued", "maap", None, None, None)]


def shown(renderable: RenderableType, width: int) -> list[str]:
    """The lines on a screen of this width, none of which is wider."""
    screen = io.StringIO()
    Console(file=screen, width=width, highlight=False, markup=False).print(renderable)
    lines = [line.rstrip() for line in screen.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return lines


@pytest.mark.parametrize("width", range(34, 100, 3))
def test_no_word_of_a_table_is_broken(width: int) -> None:
    text = "\n".join(shown(views.table(COLUMNS, ROWS, right=("before", "after")), width)).split()
    for value in itertools.chain(*ROWS):
        assert set(str(value or "").split()) <= set(text)


def test_a_table_with_room_has_a_line_a_row() -> None:
    lines = shown(views.table(COLUMNS, ROWS, right=("before", "after")), 90)
    assert [line.split() for line in lines] == [
        list(COLUMNS),
        [NAME, "Completed", "local", "2026-11-24", "03:40", "6.812", "1.402"],
        ["b-1", "Queued", "maap", "-", "-", "-"],
    ]
    assert lines[1].index("1.402") + 5 == lines[0].index("after") + 5  # flush right


def test_a_table_without_rows_is_its_headings() -> None:
    assert [line.split() for line in shown(views.table(COLUMNS, []), 90)] == [list(COLUMNS)]


def test_what_has_words_gives_way_first() -> None:
    lines = shown(views.table(COLUMNS, ROWS), 80)
    assert lines[1].split()[:2] == [NAME, "Completed"]
    assert lines[2].split() == ["03:40"]


def test_a_table_without_room_says_each_row_under_its_name() -> None:
    assert shown(views.table(COLUMNS, ROWS, right=("before", "after")), 40) == [
        NAME,
        "  state Completed  mode local",
        "  started 2026-11-24 03:40  before 6.812",
        "  after 1.402",
        "b-1",
        "  state Queued  mode maap",
    ]


def test_a_long_value_of_a_fact_has_a_line_of_its_own_where_that_keeps_it_whole() -> None:
    path = ".azft/runs/linden-bakery-3f2a91c0"
    facts = [("state", "Completed"), ("  checkpoints", path), ("message", "several words that are wrapped")]
    assert shown(views.facts(facts), 40) == [
        "state          Completed",
        "  checkpoints",
        f"    {path}",
        "message        several words that are",
        "               wrapped",
    ]
    assert shown(views.facts(facts), 90)[1] == f"  checkpoints  {path}"
    assert shown(views.facts([("id", "x" * 60)]), 40) == ["id  " + "x" * 36, "    " + "x" * 24]


def test_a_finding_without_a_place_leaves_no_room_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    found = views.findings([Finding("result-worse", Severity.WARNING, "It rose.", "Lower it.")])
    assert [line.replace("→", "->") for line in shown(found, 100)] == [
        "1 warning",
        "  It rose.  result-worse",
        "  -> Lower it.",
    ]
