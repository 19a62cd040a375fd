"""Progress from events: what is kept, what is said, and how often."""

from __future__ import annotations

import sys

import pytest

from azft.cli.progress import PLAIN_INTERVAL, Plain, Training, sparkline
from azft.cli.views import duration, plural, size
from tests.helpers.terminal import at_terminal


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_time_to_go_follows_the_pace_of_this_attempt() -> None:
    clock = Clock()
    training = Training(clock=clock)
    training.take({"step": 50, "total_steps": 100, "loss": 3.0})
    assert training.remaining is None  # one line says nothing about pace
    clock.now += 10
    training.take({"step": 60, "loss": 2.5, "tokens_per_second": 1234.5})
    assert training.remaining == pytest.approx(40)
    training.take({"step": 60, "eval_loss": 2.75})
    assert training.words() == "step 60/100  loss 2.500  eval loss 2.750  1,234 tokens/s  40 s to go"


def test_plain_lines_come_every_few_seconds_but_evaluations_and_the_end_always(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    plain = Plain(follow=False, clock=clock)
    for step in range(1, 101):
        clock.now += 0.1
        plain({"event": "metrics", "step": "finetune", "metrics": {"step": step, "total_steps": 100, "loss": 1.0}})
        if step == 33:
            metrics = {"step": 33, "eval_loss": 1.5}
            plain({"event": "metrics", "step": "finetune", "metrics": metrics})
    plain({"event": "step-finished", "step": "finetune", "seconds": 10})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 + int(9.9 / PLAIN_INTERVAL) + 1 + 1 + 1
    assert [line for line in lines if "eval loss" in line] == [line for line in lines if "step 33/" in line]
    assert "step 100/100" in lines[-2]
    assert "to go" not in lines[-2]


def test_the_end_is_one_line_where_its_evaluation_follows(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Plain(follow=False, clock=Clock())
    for metrics in (
        {"step": 1, "total_steps": 2, "loss": 2.0},
        {"step": 2, "loss": 1.0},
        {"step": 2, "eval_loss": 3.0},
    ):
        plain({"event": "metrics", "step": "finetune", "metrics": metrics})
    plain({"event": "step-finished", "step": "finetune", "seconds": 1})
    assert capsys.readouterr().err.splitlines() == [
        "finetune: step 1/2  loss 2.000",
        "finetune: step 2/2  loss 1.000  eval loss 3.000",
        "finetune: done in 1 s",
    ]


def test_unknown_and_odd_events_are_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Plain(follow=True)
    for event in ({}, {"event": "new-kind"}, {"event": "log"}, {"event": "step-finished", "step": "x"}):
        plain(event)
    assert "x: done in 0 s" in capsys.readouterr().err


def test_a_curve_needs_two_finite_values() -> None:
    assert sparkline([]) == sparkline([1.0]) == sparkline([float("nan"), 1.0, float("inf")]) == ""
    assert sparkline([8.0, 1.0]) == "█▁"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert len(sparkline([float(i) for i in range(1000)])) == 20


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7320, "2 h 02 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 40, "5.0 TiB")])
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_plurals() -> None:
    assert [plural(count, "row") for count in (0, 1, 1204)] == ["0 rows", "1 row", "1,204 rows"]


def test_a_live_display_draws_the_curve_where_the_terminal_can_show_it() -> None:
    program = """
from azft.cli.progress import Live
with Live(follow=False) as live:
    live({"event": "step-started", "step": "finetune"})
    for step in (1, 2, 3):
        live({"event": "metrics", "step": "finetune", "metrics": {"step": step, "loss": 4.0 - step, "total_steps": 3}})
    live({"event": "step-finished", "step": "finetune", "seconds": 2})
"""
    assert "█▅▁  step 3/3  loss 1.000" in at_terminal([sys.executable, "-c", program]).plain
    plain = at_terminal([sys.executable, "-c", program], PYTHONIOENCODING="ascii:backslashreplace").plain
    assert "step 3/3  loss 1.000" in plain
    assert "\\u" not in plain
