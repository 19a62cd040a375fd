"""The loss curve as a picture, drawn by matplotlib off screen: it opens no window and changes none of its settings."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence

from azft.extras import needs

_INK = "#808080"
"""Axes and labels: as far from white as from black, because the page behind may be either."""
_LOSS, _EVAL = "#3b82f6", "#f97316"
_WINDOW = 20
"""From so many steps on a running mean is drawn over the steps' own losses."""


def draw_curve(
    losses: Mapping[int, float], eval_losses: Mapping[int, float], *, total: int | None = None, dpi: int = 144
) -> bytes:
    """A PNG, transparent, of losses by step; `total` steps give the axis its length before they are all done.

    Raises `MissingDependencyError` without matplotlib.
    """
    with needs("notebook", "The loss curve"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.2, 2.7), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps, values = list(losses), list(losses.values())
    means = running_mean(values)
    smooth = len(values) >= _WINDOW
    axes.plot(
        steps, values, color=_LOSS, linewidth=1, alpha=0.35 if smooth else 1, label=None if smooth else "training"
    )
    if smooth:
        axes.plot(steps, means, color=_LOSS, linewidth=1.8, label="training")
    if eval_losses:
        marks = {"marker": "o", "markersize": 4.5, "linestyle": "--", "linewidth": 1.2}
        axes.plot(list(eval_losses), list(eval_losses.values()), color=_EVAL, label="validation", **marks)  # type: ignore[arg-type]
    if total:
        axes.set_xlim(0, total)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step", color=_INK)
    axes.set_ylabel("loss", color=_INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(colors=_INK)
    axes.grid(visible=True, color=_INK, alpha=0.2, linewidth=0.6)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(_INK)
    axes.legend(frameon=False, labelcolor=_INK, loc="upper right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", transparent=True)
    return picture.getvalue()


def running_mean(values: Sequence[float]) -> list[float]:
    """The mean of each value and those before it, over a tenth of them but never fewer than two."""
    width = max(2, len(values) // 10)
    sums = [0.0, *itertools.accumulate(values)]
    starts = (max(0, end - width) for end in range(1, len(sums)))
    return [(sums[end] - sums[start]) / (end - start) for end, start in enumerate(starts, 1)]


def describe_curve(losses: Mapping[int, float], eval_losses: Mapping[int, float]) -> str:
    """The curve in words, for whoever can't see it."""
    if not losses:
        return "The loss curve; there are no losses yet."
    (first, start), (last, end) = next(iter(losses.items())), list(losses.items())[-1]
    words = f"Loss curve: from {start:.3f} at step {first} to {end:.3f} at step {last}"
    if eval_losses:
        words += f"; validation loss {list(eval_losses.values())[-1]:.3f}"
    return f"{words}."
