"""The training loop: steps, evaluations, early stopping, checkpoints. Readable in one sitting, and complete.

One step: each rank runs its micro-batches forward and backward; gradients of summed losses are scaled by one over the
label tokens of the whole global batch, which are known beforehand, so that batch size, accumulation and number of ranks
do not change the gradient; they are exchanged with the last micro-batch, clipped, and applied. Everything that the next
step depends on is in `Progress`, the weights, the optimizer and the random numbers: that is what a checkpoint holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from azft.errors import AzftError
from azft.training import snapshot
from azft.training.ahead import Ahead
from azft.training.batches import global_batch
from azft.training.loss_scale import UNSCALED, LossScale
from azft.training.metrics import Metrics, duration

if TYPE_CHECKING:
    from azft.data.dataset import TokenDataset
    from azft.recipe import Training
    from azft.training.batches import Moment
    from azft.training.checkpoints import Checkpoint, CheckpointFolder
    from azft.training.devices import Arithmetic
    from azft.training.distribution import SingleProcess
    from azft.training.objectives import Objective
    from azft.training.schedule import Timetable


@dataclass(frozen=True)
class Progress:
    """Where a run stands; saved in every checkpoint.

    `window_*` add up over the steps since the last line of metrics, so that a line is the mean over them.
    """

    step: int = 0
    tokens: int = 0
    window_loss: float = 0.0
    window_labels: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    evaluations_without_improvement: int = 0
    stopped_early: bool = False
    loss_scale: float = LossScale().factor
    """Of the next step, where the arithmetic needs one."""
    loss_scale_held: int = 0


@dataclass(frozen=True)
class StepResult:
    """What one step saw: summed loss and counts over the global batch, and the gradient's norm before clipping.

    The norm is not finite when the gradient overflowed under a loss scale, and nothing was updated.
    """

    loss_sum: float
    labels: int
    tokens: int
    grad_norm: float
    stop_requested: bool


class NonFiniteError(AzftError):
    """The loss or the gradient became NaN or infinite; the weights are those of the step before."""


class Loop:
    """Trains `module` on `train`, from wherever the newest checkpoint stands.

    `validation` may be None: then nothing is evaluated.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        objective: Objective,
        training: Training,
        timetable: Timetable,
        arithmetic: Arithmetic,
        ranks: SingleProcess,
        train: TokenDataset,
        validation: TokenDataset | None,
        checkpoints: CheckpointFolder,
        metrics: Metrics,
    ) -> None:
        self.module: Any = module
        self.objective = objective
        self.training = training
        self.timetable = timetable
        self.arithmetic = arithmetic
        self.ranks = ranks
        self.train = train
        self.validation = validation
        self.checkpoints = checkpoints
        self.metrics = metrics
        self.optimizer = ranks.adopt(
            module,
            lambda weights: make_optimizer(weights, training, dimensions=ranks.dimensions),
            training=training,
            arithmetic=arithmetic,
        )
        self.last_save = -1

    def run(self, progress: Progress, stop_requested: Callable[[], bool] = lambda: False) -> tuple[Progress, bool]:
        """Train until the timetable ends, patience does, or a stop is requested.

        Returns the progress, and whether a requested stop ended it (after the step in hand, with a checkpoint).
        """
        # No step waits for its data: they are read, put together and moved to the device while an earlier one computes.
        with Ahead(self._batches_from(progress.step)) as batches:
            return self._run(progress, stop_requested, batches)

    def _run(
        self, progress: Progress, stop_requested: Callable[[], bool], batches: Iterator[Any]
    ) -> tuple[Progress, bool]:
        self.module.train()
        seconds, tokens, began = 0.0, 0, time.perf_counter()
        while progress.step < self.timetable.total_steps and not progress.stopped_early:
            scale = LossScale(progress.loss_scale, progress.loss_scale_held)
            result = self.step(progress.step, stop_requested, scale, batches)
            if self.arithmetic.scales_loss:
                scale = scale.after(updated=math.isfinite(result.grad_norm))
            progress = replace(
                progress,
                step=progress.step + 1,
                tokens=progress.tokens + result.tokens,
                window_loss=progress.window_loss + result.loss_sum,
                window_labels=progress.window_labels + result.labels,
                loss_scale=scale.factor,
                loss_scale_held=scale.held,
            )
            seconds += time.perf_counter() - began
            tokens += result.tokens
            if progress.step % self.training.logging_steps == 0 or progress.step == self.timetable.total_steps:
                self._log(progress, result, tokens / seconds)
                progress, seconds, tokens = replace(progress, window_loss=0.0, window_labels=0), 0.0, 0
            improved = False
            if self.validation is not None and self.timetable.evaluate_after(progress.step):
                progress, improved = self._evaluate(progress)
            if result.stop_requested or progress.stopped_early or improved or self.timetable.save_after(progress.step):
                self.save(progress)
            if result.stop_requested:
                return progress, True
            began = time.perf_counter()
        return progress, False

    def step(
        self,
        step: int,
        stop_requested: Callable[[], bool] = lambda: False,
        scale: LossScale = UNSCALED,
        batches: Iterator[Any] | None = None,
    ) -> StepResult:
        """One optimizer update, number `step` (from 0); none where gradients overflow that are only scaled too much.

        `batches` is where to take this rank's micro-batches from; without it they are made when they are needed.

        Raises:
            NonFiniteError: Before anything is updated.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.timetable.learning_rate(step + 1)
        sequences = self._global_batch(step)
        # By the ranks' number less, because losses are already multiplied by it: what overflows is the same with any.
        factor = scale.factor / self.ranks.ranks if self.arithmetic.scales_loss else 1.0
        losses, tokens = self.accumulate(sequences, step=step, scale=factor, batches=batches)
        # One exchange a step carries all that the ranks must agree on.
        local = math.fsum(loss for _, loss in losses)
        loss_sum, tokens_sum, stops = self.ranks.add_up([local, tokens, stop_requested()])
        grad_norm = math.nan
        if math.isfinite(loss_sum):
            grad_norm = self.ranks.update(self.training.max_grad_norm, scale=factor)
        too_large = self.arithmetic.scales_loss and math.isfinite(loss_sum) and not scale.exhausted
        if not math.isfinite(grad_norm) and not too_large:
            raise self._non_finite(step, losses, loss_sum, grad_norm)
        labels = int(self.train.label_counts[sequences].sum())
        return StepResult(loss_sum, labels, int(tokens_sum), grad_norm, stops > 0)

    def accumulate(
        self, sequences: list[int], *, step: int = 0, scale: float = 1.0, batches: Iterator[Any] | None = None
    ) -> tuple[list[tuple[list[int], float]], int]:
        """Leave the gradient of the mean loss per label token of step `step`'s global batch in the weights' `.grad`.

        It is scaled by `scale`. Returns this rank's micro-batches with their summed losses, and its number of tokens.
        `batches` as in `step`.
        """
        labels = int(self.train.label_counts[sequences].sum())
        mine = self._share(self.train, sequences)
        batches = batches or self._batches(self.train, sequences, self._moment(step))
        losses, tokens = [], 0
        for index, members in enumerate(mine):
            batch = next(batches)
            # A rank without work left has a batch too, with weight zero, so that it can take part.
            weight = self.ranks.ranks / max(labels, 1) if members else 0.0
            last = index == len(mine) - 1
            with nullcontext() if last else self.ranks.accumulating():
                loss = self.ranks.loss(batch)
                self.ranks.backward(loss * weight, scale=scale)
            if members:
                losses.append((members, loss.detach()))
                tokens += batch.tokens
        # Read at the end: on a GPU each reading waits for it.
        return [(members, float(loss)) for members, loss in losses], tokens

    def _global_batch(self, step: int) -> list[int]:
        size, seed = self.training.global_batch_size, self.training.seed
        batch: list[int] = global_batch(len(self.train), size=size, step=step, seed=seed).tolist()
        return batch

    def _batches_from(self, step: int) -> Iterator[Any]:
        """This rank's micro-batches from a step (from 0) to the end."""
        for later in range(step, self.timetable.total_steps):
            yield from self._batches(self.train, self._global_batch(later), self._moment(later))

    def _moment(self, step: int) -> Moment:
        return (self.training.seed, step)

    def _batches(self, dataset: TokenDataset, sequences: Sequence[int], moment: Moment) -> Iterator[Any]:
        """The batches of `_share`, on the device; for an empty one the first sequence."""
        for members in self._share(dataset, sequences):
            yield self.objective.batch_of(dataset, members or sequences[:1], moment).to(self.ranks.device)

    def _share(self, dataset: TokenDataset, sequences: Sequence[int]) -> list[list[int]]:
        micro, ranks = self.training.micro_batch_size, self.ranks
        return self.objective.micro_batches(dataset, sequences, micro=micro, rank=ranks.rank, ranks=ranks.ranks)

    def evaluate(self) -> float:
        """Mean loss per label token of the validation data, over all ranks."""
        assert self.validation is not None
        self.module.eval()
        everything = range(len(self.validation))
        loss, labels = 0.0, 0
        for members in self._share(self.validation, everything):
            if members or self.ranks.shards_weights:  # then a rank without work computes too, for the others' sake
                batch = self.objective.batch_of(self.validation, members or everything[:1]).to(self.ranks.device)
                score = self.ranks.score(self.module, batch)
                if members:
                    loss += float(score.loss)
                    labels += len(batch.labels)
        self.module.train()
        loss, total = self.ranks.add_up([loss, labels])
        return loss / max(total, 1)

    def save(self, progress: Progress) -> None:
        """Write a checkpoint of this moment (once) and remove those that are no longer to be kept."""
        if self.last_save == progress.step:
            return
        self.last_save = progress.step
        tensors = snapshot.tensors(self.module, self.ranks)
        if self.ranks.is_main:
            self.metrics.flush()
            self.checkpoints.save(progress.step, tensors, asdict(progress))
            self.checkpoints.rotate(progress.best_step)
        else:
            for _ in tensors:  # takes part in gathering them, and has nothing to write
                pass

    def restore(self, checkpoint: Checkpoint) -> Progress:
        """Go back to a checkpoint's moment, bit for bit, random numbers included."""
        snapshot.load_weights(self.module, checkpoint.tensors("weights"), self.ranks)
        snapshot.load_optimizer_state(self.module, checkpoint.tensors("optimizer"), self.ranks)
        if not snapshot.load_random_state(self.ranks, checkpoint.tensors("random")):
            self.metrics.say("note: the checkpoint is of another number of ranks; random numbers start anew")
            snapshot.seed_everything(self.training.seed + checkpoint.step, self.ranks.rank)
        self.last_save = checkpoint.step
        return Progress(**checkpoint.state)

    def _evaluate(self, progress: Progress) -> tuple[Progress, bool]:
        """Evaluate, and count towards early stopping.

        The second value says whether a checkpoint is due because this one may be the result.
        """
        loss = self.evaluate()
        if not math.isfinite(loss):
            raise NonFiniteError(f"The evaluation loss is {loss} after step {progress.step}.", fix=_REMEDIES)
        patience = self.training.early_stopping_patience
        threshold = self.training.early_stopping_threshold if patience else 0.0
        self.metrics.log({"step": progress.step, "epoch": self.timetable.epoch(progress.step), "eval_loss": loss})
        self.metrics.say(f"step {progress.step}/{self.timetable.total_steps}  eval loss {loss:.4f}")
        if progress.best_loss is None or loss < progress.best_loss - threshold:
            best = replace(progress, best_loss=loss, best_step=progress.step, evaluations_without_improvement=0)
            return best, patience is not None
        waited = progress.evaluations_without_improvement + 1
        stop = patience is not None and waited >= patience
        if stop:
            self.metrics.say(
                f"no improvement in {waited} evaluations: stopping, the result is step {progress.best_step}"
            )
        return replace(progress, evaluations_without_improvement=waited, stopped_early=stop), False

    def _log(self, progress: Progress, result: StepResult, speed: float) -> None:
        step, total = progress.step, self.timetable.total_steps
        loss = progress.window_loss / max(progress.window_labels, 1)
        rate = self.timetable.learning_rate(step)
        self.metrics.log(
            {
                "step": step,
                "total_steps": total,
                "epoch": self.timetable.epoch(step),
                "loss": loss,
                "learning_rate": rate,
                "grad_norm": result.grad_norm if math.isfinite(result.grad_norm) else None,
                **({"loss_scale": progress.loss_scale} if self.arithmetic.scales_loss else {}),
                "tokens": progress.tokens,
                "tokens_per_second": speed,
            }
        )
        left = progress.tokens / step * (total - step) / speed
        norm = f"{result.grad_norm:.3g}" if math.isfinite(result.grad_norm) else "too large for fp16, no update"
        self.metrics.say(
            f"step {step}/{total}  loss {loss:.4f}  learning rate {rate:.2e}  gradient norm {norm}  "
            f"{speed:,.0f} tokens/s  {duration(left)} left"
        )

    def _non_finite(self, step: int, losses: list[tuple[list[int], float]], loss: float, norm: float) -> NonFiniteError:
        bad = [members for members, value in losses if not math.isfinite(value)] or [members for members, _ in losses]
        sequences = sorted(s for members in bad for s in members)
        offsets, documents = self.train.sequence_offsets, self.train.sequence_documents
        numbers = sorted(int(d) for s in sequences for d in documents[offsets[s] : offsets[s + 1]])
        shown = ", ".join(map(str, numbers[:20])) + (", ..." if len(numbers) > 20 else "")
        return NonFiniteError(
            f"Step {step + 1}: the loss is {loss / max(1, self.ranks.ranks):g} and the gradient's norm {norm:g} "
            f"(rank {self.ranks.rank}, training documents {shown}). The weights were not updated.",
            fix=_REMEDIES,
        )


_REMEDIES = (
    "Look at those rows; lower training.learning_rate, raise training.warmup_ratio, or set training.precision: fp32. "
    "The run resumes from its last checkpoint."
)


def make_optimizer(
    parameters: list[torch.nn.Parameter],
    training: Training,
    *,
    dimensions: Callable[[torch.nn.Parameter], int] = torch.Tensor.dim,
) -> torch.optim.AdamW:
    """AdamW as the recipe says; weight decay spares vectors (biases and norms), as is usual."""
    groups = [
        {"params": [p for p in parameters if dimensions(p) >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if dimensions(p) < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=training.learning_rate or 0.0,
        betas=(training.adam_beta1, training.adam_beta2),
        eps=training.adam_epsilon,
        fused=True,
    )
