"""Arithmetic of a run's steps: how many there are, the learning rate of each, and when to evaluate and save."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

from azft.recipe import Training


@dataclass(frozen=True)
class Timetable:
    """A step is one optimizer update; steps are counted from 1 as soon as they are done."""

    total_steps: int
    steps_per_epoch: int
    warmup_steps: int
    peak: float
    schedule: Literal["cosine", "linear", "constant"]
    eval_every: int
    save_every: int

    @classmethod
    def of(cls, training: Training, *, sequences: int) -> Self:
        """Made from the recipe and the number of training sequences.

        The last batch of an epoch may be smaller, so an epoch has ceil(sequences / global_batch_size) steps.
        """
        if training.learning_rate is None:
            raise ValueError("the learning rate must be filled in before training")
        per_epoch = math.ceil(sequences / training.global_batch_size)
        # Rounded first: 0.1 * 30 is a little more than 3.
        total = training.max_steps or max(1, math.ceil(round(training.epochs * per_epoch, 6)))
        return cls(
            total_steps=total,
            steps_per_epoch=per_epoch,
            warmup_steps=math.ceil(round(training.warmup_ratio * total, 6)),
            peak=training.learning_rate,
            schedule=training.schedule,
            eval_every=training.eval_steps or per_epoch,
            save_every=training.save_steps or per_epoch,
        )

    def learning_rate(self, step: int) -> float:
        """Learning rate of step `step` (from 1).

        It rises in a line over the warm-up steps, none of which is zero, and reaches the peak on the first step after
        them. It would fall to zero one step after the last, so that no step is wasted.
        """
        done = step - 1
        if done < self.warmup_steps:
            return self.peak * step / (self.warmup_steps + 1)
        progress = (done - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        if self.schedule == "cosine":
            return self.peak * 0.5 * (1 + math.cos(math.pi * progress))
        return self.peak * (1 - progress) if self.schedule == "linear" else self.peak

    def evaluate_after(self, step: int) -> bool:
        """Whether to evaluate once `step` is done: every so many steps, and at the end."""
        return step % self.eval_every == 0 or step == self.total_steps

    def save_after(self, step: int) -> bool:
        """Whether to write a checkpoint once `step` is done: every so many steps, and at the end."""
        return step % self.save_every == 0 or step == self.total_steps

    def epoch(self, step: int) -> float:
        """Passes over the data after `step` steps."""
        return step / self.steps_per_epoch
