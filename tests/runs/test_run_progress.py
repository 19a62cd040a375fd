"""How far a run is, from its events."""

from __future__ import annotations

from typing import Any

from azft.runs.progress import Progress


def progress(*events: dict[str, Any]) -> Progress:
    made = Progress.of(["prepare", "finetune"])
    for event in events:
        made.take(event)
    return made


def states(made: Progress) -> dict[str, str]:
    return {name: step.state for name, step in made.steps.items()}


def test_steps_wait_run_and_end() -> None:
    made = progress(
        {"event": "step-reused", "step": "prepare"},
        {"event": "step-started", "step": "finetune", "time": "2026-11-24T08:00:00.000+00:00"},
    )
    assert states(made) == {"prepare": "reused", "finetune": "running"}
    made.take({"event": "step-failed", "step": "finetune", "time": "2026-11-24T08:00:02.500+00:00"})
    assert made.steps["finetune"].state == "failed"
    assert made.steps["finetune"].seconds == 2.5


def test_a_step_that_nobody_announced_is_added_and_a_second_attempt_runs_again() -> None:
    made = progress(
        {"event": "step-started", "step": "model_import"},
        {"event": "step-failed", "step": "model_import", "seconds": 1},
        {"event": "step-started", "step": "model_import"},
    )
    assert states(made)["model_import"] == "running"
    assert made.steps["model_import"].seconds is None


def test_when_the_run_ends_nothing_runs_any_more() -> None:
    made = progress({"event": "step-started", "step": "finetune"}, {"event": "run-finished", "state": "Canceled"})
    assert states(made) == {"prepare": "waiting", "finetune": "stopped"}


def test_losses_are_kept_by_step_and_what_is_no_number_is_not() -> None:
    lines = [
        {"step": 1, "loss": 3.0, "total_steps": 4},
        {"step": 2, "loss": float("nan")},
        {"step": 2, "eval_loss": 2.5},
        {"step": 1, "loss": 2.9},  # after a resume a step may come again
    ]
    made = progress(*({"event": "metrics", "metrics": line} for line in lines))
    assert made.losses == {1: 2.9}
    assert made.eval_losses == {2: 2.5}
    assert made.latest["total_steps"] == 4
