"""The finetune step: token ids in, trained weights out. Picks up where an earlier process of the same run stopped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from azft.data.dataset import TokenDataset, open_dataset, read_manifest
from azft.data.weight_headers import loading, stored_weights
from azft.errors import NotFoundError, UsageError
from azft.files import canonical_json, sha256_bytes, write_json
from azft.parameters import FinetuneParameters
from azft.tasks import TASKS
from azft.techniques import Qlora
from azft.training import kernels, models, snapshot
from azft.training.checkpoints import CheckpointFolder
from azft.training.devices import Arithmetic, arithmetic
from azft.training.distribution import SingleProcess, join
from azft.training.loop import Loop, Progress
from azft.training.metrics import Metrics
from azft.training.objectives import OBJECTIVES
from azft.training.output import output_folder
from azft.training.schedule import Timetable
from azft.training.stored import stored_dtype
from azft.training.techniques import TECHNIQUES, TrainingData, prepare

SIGTERM_EXIT = 143
_NOT_THE_RESULT = {"kernels", "logging_steps", "save_steps", "save_total_limit"}
"""Training parameters that may change between two runs of the same training: they leave the weights as they are, or, as
`kernels` and all of `distribution`, change no more than how sums are rounded."""


def finetune(
    parameters: FinetuneParameters, *, model: Path, dataset: Path, trained: Path, checkpoints: Path, metrics: Path
) -> None:
    """Train, and write the result into `trained`.

    Args:
        parameters: What to do; `training.learning_rate` filled in.
        model: Base model folder.
        dataset: The prepare step's output.
        trained: Receives an adapter or a whole model, and `training.json`, which sums the run up.
        checkpoints: Where the run's checkpoints are and go; it resumes from the newest good one.
        metrics: Receives metrics.jsonl.

    Raises:
        UsageError: The recipe does not fit the model or the machine, or `checkpoints` is another training's.
        NonFiniteError: The loss became NaN or infinite.
        SystemExit: With 143 after SIGTERM, once a checkpoint is written.
    """
    with join(parameters.distribution) as ranks, _stop_on_sigterm() as stop_requested:
        log = Metrics(metrics, enabled=ranks.is_main)
        try:
            loop = _set_up(parameters, model, dataset, checkpoints, ranks, log)
            progress, stopped = loop.run(_resume(loop), stop_requested)
            if stopped:
                log.say(f"stopped by SIGTERM after step {progress.step}; a checkpoint was written")
                raise SystemExit(SIGTERM_EXIT)
            result = _take_best(loop, progress)
            whole = _whole_model(parameters, model, loop)
            if whole is not None:
                _write_trained(parameters, loop, whole, progress, result, model, trained)
                log.say(f"trained: {trained}")
            ranks.add_up([0.0])  # no rank leaves before the result is there
        finally:
            log.close()


def _set_up(
    parameters: FinetuneParameters, folder: Path, dataset: Path, checkpoints: Path, ranks: SingleProcess, log: Metrics
) -> Loop:
    training = parameters.training
    for _, message, fix in TASKS[parameters.task].refusals(parameters.technique, parameters.distribution):
        raise UsageError(message, fix=fix)
    train, validation = _open(dataset, parameters)
    numbers = arithmetic(training.precision, ranks.device)
    objective = OBJECTIVES[train.objective]
    one_document = not read_manifest(dataset)["packing"] and training.micro_batch_size == 1
    reference = None
    need = loading(stored_weights(folder).values(), parameters.technique, numbers.precision)
    with ranks.turn(need, log.say):
        model = _base_model(parameters, folder, train, numbers)
        said = kernels.choose(model, numbers, wanted=training.kernels == "auto", documents=not objective.pads)
        if objective.reference is not None:
            splits = [train, validation] if validation else [train]
            reference = objective.reference(model, splits, numbers, rank=ranks.rank, ranks=ranks.ranks)
        model = _prepared(model, parameters, train, numbers).to(ranks.loads_to)
        module = objective.make(model, one_document)
        if training.gradient_checkpointing:
            models.unwrapped(model).activation_checkpointing_enable({"use_reentrant": False})
        counts = models.parameter_counts(model)
        ranks.shard(module, training=training)
    if reference is not None:
        everyones = {name: ranks.add_up(said.tolist()) for name, said in reference.items()}
        module.against({n: torch.tensor(s, dtype=torch.float64) for n, s in everyones.items()}, training.dpo_beta)
    snapshot.seed_everything(training.seed, ranks.rank)
    timetable = Timetable.of(training, sequences=len(train))
    _describe(log, counts, numbers, ranks, timetable, train)
    for words in said:
        log.say(f"kernels: {words}")
    return Loop(
        module,
        objective=objective,
        training=training,
        timetable=timetable,
        arithmetic=numbers,
        ranks=ranks,
        train=train,
        validation=validation,
        checkpoints=CheckpointFolder(
            checkpoints, identity=_identity(parameters, folder, train), keep=training.save_total_limit
        ),
        metrics=log,
    )


def _base_model(
    parameters: FinetuneParameters,
    folder: Path,
    train: TokenDataset,
    numbers: Arithmetic,
    dtype: torch.dtype | None = None,
) -> Any:
    """The base model with the objective's head; in the type that it is trained in, or another."""
    technique = parameters.technique
    dtype = dtype or (torch.float32 if technique.changes_base else numbers.compute)
    snapshot.seed_everything(parameters.training.seed)  # a new head's first weights
    model = models.load_model(
        folder,
        **OBJECTIVES[train.objective].loading(train.labels),
        dtype=dtype,
        trust_remote_code=parameters.trust_remote_code,
        quantization=technique if isinstance(technique, Qlora) else None,
    )
    _check_fit(model, train, folder)
    return model


def _prepared(model: Any, parameters: FinetuneParameters, train: TokenDataset, numbers: Arithmetic) -> Any:
    """The model, prepared by the technique, as it is before the first step; the same on every rank."""
    snapshot.seed_everything(parameters.training.seed)  # equal on all ranks: it draws the adapter's first weights
    return prepare(model, parameters.technique, data=TrainingData(train, parameters.training.seed, numbers.device))


def _open(dataset: Path, parameters: FinetuneParameters) -> tuple[TokenDataset, TokenDataset | None]:
    train = open_dataset(dataset, "train")
    if int(train.label_counts.sum()) == 0:
        raise UsageError("No token of the training data is in the loss.", fix="Look at the rows with: azft preview")
    try:
        validation: TokenDataset | None = open_dataset(dataset, "validation")
    except NotFoundError:
        validation = None
    if validation is not None and int(validation.label_counts.sum()) == 0:
        validation = None
    if validation is None and parameters.training.early_stopping_patience:
        raise UsageError("Early stopping needs validation data, and there is none.", fix="Name data.validation.")
    return train, validation


def _check_fit(model: Any, train: TokenDataset, folder: Path) -> None:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    highest = int(train.tokens.max())
    if highest >= vocabulary:
        raise UsageError(
            f"The data have token {highest}, but the model in {folder} knows {vocabulary} tokens.",
            fix="Prepare the data with this model's tokenizer.",
        )


def _identity(parameters: FinetuneParameters, model: Path, train: TokenDataset) -> dict[str, str]:
    settings = parameters.model_dump(mode="json", exclude={"distribution": True, "training": _NOT_THE_RESULT})
    return {
        "parameters": sha256_bytes(canonical_json(settings)),
        "dataset": train.fingerprint,
        "model": models.fingerprint(model),
    }


def _resume(loop: Loop) -> Progress:
    """Go to the newest good checkpoint, if there is one; every rank to the same."""
    folder, ranks = loop.checkpoints, loop.ranks
    step = -1
    if ranks.is_main:
        folder.clean()
        newest = folder.newest()
        step = newest.step if newest else -1
        for problem in folder.problems:
            loop.metrics.say(f"warning: {problem}")
        for damaged in [s for s in folder.steps() if s > step]:
            folder.remove(damaged)  # or rotation would count it among the newest
    step = ranks.choice_of_main(step)
    loop.metrics.resume_after(max(step, 0))
    if step < 0:
        return Progress()
    checkpoint = folder.load(step)
    if checkpoint is None:
        raise UsageError(
            f"Rank {ranks.rank} can't read checkpoint {folder.path(step)}: {folder.problems[-1]}",
            fix="All nodes must see the same checkpoints folder.",
        )
    progress = loop.restore(checkpoint)
    loop.metrics.say(f"resumed from step {step} of {loop.timetable.total_steps}")
    return progress


def _take_best(loop: Loop, progress: Progress) -> int:
    """With early stopping, put the best checkpoint's weights into the model; the step whose weights are the result."""
    best = progress.best_step
    if not loop.training.early_stopping_patience or best is None or best == progress.step:
        return progress.step
    checkpoint = loop.checkpoints.load(best)
    if checkpoint is None:
        loop.metrics.say(f"warning: {loop.checkpoints.problems[-1]} The result is the last step, not the best one.")
        return progress.step
    snapshot.load_weights(loop.module, checkpoint.tensors("weights"), loop.ranks)
    return best


def _whole_model(parameters: FinetuneParameters, base: Path, loop: Loop) -> Any:
    """The trained model, whole, on rank 0, and None on the others. Every rank takes part in gathering it."""
    ranks = loop.ranks
    if not ranks.shards_weights:
        return loop.module.model if ranks.is_main else None
    fresh = None
    if ranks.is_main:
        # Where all is replaced, it can be had at once in the type in which it is written: half of the memory, mostly.
        replaced = all(parameter.requires_grad for parameter in loop.module.model.parameters())
        loaded = _base_model(parameters, base, loop.train, loop.arithmetic, stored_dtype(base) if replaced else None)
        fresh = _prepared(loaded, parameters, loop.train, loop.arithmetic)
    snapshot.gather_into(fresh, loop.module.model, ranks)
    return fresh


def _write_trained(
    parameters: FinetuneParameters, loop: Loop, model: Any, progress: Progress, result: int, base: Path, trained: Path
) -> None:
    """Write the result, load it back, compare, and only then let it appear under its name."""
    technique = TECHNIQUES[parameters.technique.name]
    trainable, total = models.parameter_counts(model)
    with output_folder(trained, last="training.json") as folder:
        technique.save(model, folder, stored_dtype(base))
        if not parameters.technique.is_adapter:
            models.copy_tokenizer(base, folder)
        technique.verify(model, folder)
        summary = {
            "technique": parameters.technique.name,
            "objective": loop.train.objective,
            "labels": list(loop.train.labels),
            "steps": progress.step,
            "total_steps": loop.timetable.total_steps,
            "epochs": loop.timetable.epoch(progress.step),
            "tokens": progress.tokens,
            "result_step": result,
            "best_step": progress.best_step,
            "best_eval_loss": progress.best_loss,
            "stopped_early": progress.stopped_early,
            "precision": loop.arithmetic.precision,
            "ranks": loop.ranks.ranks,
            "trainable_parameters": trainable,
            "total_parameters": total,
            "parameters": parameters.model_dump(mode="json"),
        }
        write_json(folder / "training.json", summary)


def _describe(
    log: Metrics,
    counts: tuple[int, int],
    numbers: Arithmetic,
    ranks: SingleProcess,
    timetable: Timetable,
    train: TokenDataset,
) -> None:
    trainable, total = counts
    log.say(
        f"{trainable:,} of {total:,} weights are trained ({trainable / total:.2%}); {numbers.precision} on "
        f"{numbers.device.type}, {ranks.ranks} rank{'s' if ranks.ranks > 1 else ''}"
    )
    log.say(
        f"{len(train):,} sequences of up to {train.max_length:,} tokens; {timetable.total_steps:,} steps, "
        f"{timetable.steps_per_epoch:,} an epoch"
    )


@contextmanager
def _stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM into a wish that the loop asks for; the handler of before comes back when the block ends."""
    asked = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before: Any = signal.signal(signal.SIGTERM, handle)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
