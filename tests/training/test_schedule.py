"""How many steps a run has, and the learning rate, evaluations and checkpoints of each."""

from __future__ import annotations

from typing import Any

import pytest

from azft.recipe import Training
from azft.training.schedule import Timetable


def timetable(sequences: int = 20, **training: Any) -> Timetable:
    return Timetable.of(Training(**({"learning_rate": 1.0, "global_batch_size": 4} | training)), sequences=sequences)


@pytest.mark.parametrize(
    ("sequences", "epochs", "max_steps", "total"),
    [
        (20, 3, None, 15),
        (21, 1, None, 6),
        (20, 0.5, None, 3),
        (20, 0.2, None, 1),
        (2, 1, None, 1),
        (20, 3, 7, 7),
        (20, 1, 70, 70),
    ],
)
def test_total_steps(sequences: int, epochs: float, max_steps: int | None, total: int) -> None:
    assert timetable(sequences, epochs=epochs, max_steps=max_steps).total_steps == total


def test_the_rate_rises_in_a_line_and_falls_by_the_schedule() -> None:
    linear = timetable(epochs=2, warmup_ratio=0.2, schedule="linear")
    assert linear.warmup_steps == 2
    rates = [linear.learning_rate(step) for step in range(1, 11)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[2:] == pytest.approx([1 - n / 8 for n in range(8)])
    cosine = timetable(epochs=2, warmup_ratio=0, schedule="cosine")
    assert [cosine.learning_rate(step) for step in (1, 6)] == pytest.approx([1, 0.5])
    constant = timetable(epochs=2, warmup_ratio=0.1, schedule="constant")
    assert [constant.learning_rate(step) for step in (1, 2, 10)] == pytest.approx([0.5, 1, 1])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_no_step_is_wasted_on_a_rate_of_zero(schedule: str) -> None:
    for warmup in (0, 0.03, 0.5, 1):
        plan = timetable(epochs=3, warmup_ratio=warmup, schedule=schedule)
        assert all(0 < plan.learning_rate(step) <= 1 for step in range(1, plan.total_steps + 1))


def test_evaluations_and_checkpoints_come_once_an_epoch_or_as_asked_and_at_the_end() -> None:
    steps = range(1, 14)
    by_epoch = timetable(epochs=2.5)
    assert [s for s in steps if by_epoch.evaluate_after(s)] == [5, 10, 13]
    assert [s for s in steps if by_epoch.save_after(s)] == [5, 10, 13]
    asked = timetable(epochs=2.5, eval_steps=4, save_steps=6)
    assert [s for s in steps if asked.evaluate_after(s)] == [4, 8, 12, 13]
    assert [s for s in steps if asked.save_after(s)] == [6, 12, 13]
