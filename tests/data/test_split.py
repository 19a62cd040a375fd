"""The split depends on content and seed alone, is near the share asked for, and leaves no side empty."""

from __future__ import annotations

import random

import pytest

from azft.data.split import choose_validation, in_validation, place_of

ROWS = [
    {"messages": [{"role": "user", "content": f"Question {i}"}, {"role": "assistant", "content": "A"}]}
    for i in range(2000)
]


def test_the_choice_does_not_change_between_versions_or_machines() -> None:
    assert [i for i in range(60) if in_validation(ROWS[i], share=0.1, seed=42)] == [6, 12, 15, 17, 35, 38, 58]


def test_about_the_share_is_chosen() -> None:
    chosen = sum(in_validation(row, share=0.1, seed=42) for row in ROWS)
    assert 0.08 * len(ROWS) < chosen < 0.12 * len(ROWS)


def test_key_order_and_row_order_do_not_matter() -> None:
    row = ROWS[3]
    turned = {"messages": [dict(reversed(list(message.items()))) for message in row["messages"]]}
    assert place_of(row, seed=1) == place_of(turned, seed=1)
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    before = {row["messages"][0]["content"] for row in ROWS if in_validation(row, share=0.2, seed=7)}
    assert before == {row["messages"][0]["content"] for row in shuffled if in_validation(row, share=0.2, seed=7)}


def test_another_seed_chooses_others() -> None:
    first, second = ([in_validation(row, share=0.5, seed=seed) for row in ROWS] for seed in (1, 2))
    assert 0.4 < sum(a == b for a, b in zip(first, second, strict=True)) / len(ROWS) < 0.6


@pytest.mark.parametrize("share", [0.0001, 0.5, 0.9999])
def test_both_sides_get_a_row_and_copies_stay_together(share: float) -> None:
    places = [place_of(row, seed=0) for row in ROWS[:3]] * 2
    chosen = choose_validation(places, share=share)
    assert 0 < sum(chosen) < len(chosen)
    assert chosen[:3] == chosen[3:]


def test_the_helper_agrees_with_the_plain_rule_where_no_side_is_empty() -> None:
    places = [place_of(row, seed=42) for row in ROWS]
    assert choose_validation(places, share=0.1) == [in_validation(row, share=0.1, seed=42) for row in ROWS]


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS[:1] * 5])
def test_one_distinct_row_can_not_be_split(rows: list[dict[str, object]]) -> None:
    assert not any(choose_validation([place_of(row, seed=0) for row in rows], share=0.5))
