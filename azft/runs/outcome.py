"""What a run that ended says of its own result. A training that spoiled the model completes as any other does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from azft.findings import Finding, Severity

if TYPE_CHECKING:
    from azft.runs.record import Run

_CLEARLY, _AT_LEAST = 1.05, 0.01
"""A held-out loss ended above where it began when it grew by more than this factor and this many nats: what is less is
what another seed does, too."""


def outcome_findings(run: Run) -> tuple[Finding, ...]:
    """A warning of a held-out loss that ended clearly above where it began, or as no number; () while it goes on."""
    if run.state.active or (losses := _held_out(run)) is None:
        return ()
    began, ended = (_finite(loss) for loss in losses)
    if ended is None:
        return (_warning(run, "not-finite", "The held-out loss ended as no finite number: the model is of no use."),)
    if began is None or ended <= began * _CLEARLY + _AT_LEAST:
        return ()
    message = f"The held-out loss rose from {began:.3f} to {ended:.3f}: the training made the model worse."
    return (_warning(run, "worse", message),)


def _warning(run: Run, code: str, message: str) -> Finding:
    rate = (run.recipe.get("training") or {}).get("learning_rate")
    given = f" ({rate:g})" if rate else ""
    fix = f"Lower training.learning_rate{given}, or train for fewer epochs, and submit again."
    return Finding(f"result-{code}", Severity.WARNING, message, fix)


def _held_out(run: Run) -> tuple[Any, Any] | None:
    """The loss before and after: of base and tuned model, else the first and the last while it trained."""
    if (found := run.evaluation()) is not None:
        base, tuned = (found.get(which) or {} for which in ("base", "tuned"))
        return (base.get("loss"), tuned["loss"]) if "loss" in tuned else None
    if (run.recipe.get("training") or {}).get("early_stopping_patience"):
        return None  # the result is the best of them, and not the last
    losses = [line["eval_loss"] for line in run.metrics()[0] if "eval_loss" in line]
    return (losses[0], losses[-1]) if len(losses) > 1 else None


def _finite(loss: Any) -> float | None:
    """A loss as a number; JSON has none for NaN and infinity, and says null or a text in their place."""
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else None
