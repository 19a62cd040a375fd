"""The fine-tuning service's hyperparameters, translated into azft's own parameters.

One table: a name that is in neither half of it is refused in the service's words, as the service does. Names follow
Azure's `chat_completion_pipeline` (0.0.82); its defaults stand where a job says nothing. The values arrive as text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from azft.errors import UsageError
from azft.parameters import FinetuneParameters, PrepareParameters
from azft.recipe import Distribution, Training
from azft.targets.columns import INPUTS, SQUAD
from azft.techniques import Full, Lora, Technique

WITHOUT_EFFECT = {
    "apply_deepspeed": "one process on this machine trains",
    "deepspeed": "one process on this machine trains",
    "deepspeed_stage": "one process on this machine trains",
    "apply_ort": "Azure always disables it",
    "optim": "AdamW is used",
    "pad_to_max_length": "rows are never padded further than their batch needs",
    "auto_find_batch_size": "the batch size is taken as given",
    "per_device_eval_batch_size": "the batch size of the training is used",
    "metric_for_best_model": "the evaluation loss decides",
    "evaluation_steps_interval": "eval_steps decides",
    "save_strategy": "checkpoints are written every epoch",
    "ignore_mismatched_sizes": "sizes must fit",
    "merge_lora_weights": "adapters are always merged",
    "number_of_gpu_to_use_finetuning": "one process on this machine trains",
    "num_nodes_finetune": "one process on this machine trains",
}
"""Known to the service, and of no consequence in a rehearsal: why not."""

_LONGEST = 4096
"""Tokens of a sequence where the service would take the model's own limit; rehearsals are short."""

_COMPLETION = INPUTS["text-generation"]["completion"]
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}


class HyperparameterError(UsageError):
    """A hyperparameter that the service refuses."""


@dataclass(frozen=True)
class Settings:
    """What a job asks for."""

    prepare: PrepareParameters
    finetune: FinetuneParameters
    warmup_steps: int
    """Steps over which the learning rate rises; a ratio only once the number of steps is known."""
    notes: tuple[str, ...]
    """What was asked for and has no effect here."""

    def with_warmup(self, sequences: int) -> FinetuneParameters:
        """The finetune parameters, once it is known how many sequences an epoch has."""
        if not self.warmup_steps:
            return self.finetune
        training = self.finetune.training
        steps = training.max_steps or math.ceil(math.ceil(sequences / training.global_batch_size) * training.epochs)
        return self.finetune.override(warmup_ratio=min(1.0, self.warmup_steps / max(1, steps)))


def read_hyperparameters(given: Mapping[str, str], *, task: str, has_validation: bool) -> Settings:
    """Translate a job's hyperparameters. Raises `HyperparameterError` naming every one that is wrong."""
    reader = _Reader(given)
    batch = reader.take("per_device_train_batch_size", _at_least_one, 1)
    accumulation = reader.take("gradient_accumulation_steps", _at_least_one, 1)
    length = reader.take("max_seq_length", _integer, -1)
    max_steps = reader.take("max_steps", _integer, -1)
    strategy = reader.take("evaluation_strategy", _one_of("epoch", "steps", "disable", "no"), "epoch")
    eval_steps = reader.take("eval_steps", _integer, 500)
    stopping = reader.take("apply_early_stopping", _boolean, False)
    patience = reader.take("early_stopping_patience", _integer, 0)
    seed = reader.take("seed", _integer, 42)
    schedule = reader.take("lr_scheduler_type", _one_of(*_SCHEDULES), "linear")
    training = {
        "epochs": reader.take("num_train_epochs", _positive, 1.0),
        "max_steps": max_steps if max_steps > 0 else None,
        "learning_rate": reader.take("learning_rate", _positive, 2e-5),
        "schedule": _SCHEDULES[schedule],
        "warmup_ratio": reader.take("warmup_ratio", _number, 0.0),
        "micro_batch_size": batch,
        "global_batch_size": batch * accumulation,
        "max_length": length if length > 0 else _LONGEST,
        "packing": False,  # a row is a sequence there, and so the number of steps is the service's
        "precision": "fp32" if reader.take("precision", _one_of("32", "16"), "32") == "32" else "auto",
        "weight_decay": reader.take("weight_decay", _number, 0.0),
        "adam_beta1": reader.take("adam_beta1", _number, 0.9),
        "adam_beta2": reader.take("adam_beta2", _number, 0.999),
        "adam_epsilon": reader.take("adam_epsilon", _positive, 1e-8),
        "max_grad_norm": reader.take("max_grad_norm", _number, 1.0),
        "gradient_checkpointing": False,
        "seed": seed,
        "logging_steps": max(1, reader.take("logging_steps", _integer, 1)),
        "eval_steps": eval_steps if strategy == "steps" else None,
        "save_total_limit": max(1, reader.take("save_total_limit", _integer, 1)),
        "early_stopping_patience": max(1, patience) if stopping else None,
        "early_stopping_threshold": reader.take("early_stopping_threshold", _number, 0.0),
    }
    columns = _columns(reader, task)
    technique = _technique(reader)
    warmup_steps = reader.take("warmup_steps", _integer, 0)
    if stopping and strategy in {"disable", "no"}:
        reader.wrong("apply_early_stopping", "needs an evaluation_strategy")
    notes = reader.finish()
    try:
        checked = Training.model_validate(training)
    except ValueError as error:
        raise HyperparameterError(f"Invalid hyperparameters: {_first(error)}") from None
    return Settings(
        prepare=PrepareParameters(
            task=task,
            columns=columns,
            prompt=None,
            labels=(),
            resolution=None,
            validation_split=None if has_validation else 0.1,
            long_rows="truncate",
            max_length=checked.max_length,
            packing=False,
            seed=seed,
        ),
        finetune=FinetuneParameters(
            task=task,
            technique=technique,
            training=checked,
            distribution=Distribution(),
            trust_remote_code=False,
        ),
        warmup_steps=max(0, warmup_steps),
        notes=notes,
    )


def _columns(reader: _Reader, task: str) -> dict[str, str]:
    """The file's columns by the task's names; a pipeline is told of them, a fine-tuning job is not."""
    named = INPUTS.get(task, {})
    told = {name: reader.take(name, str, "") for name in dict.fromkeys(named.values())}
    if task == "question-answering":
        for name in SQUAD:
            reader.take(name, str, "")
    if task == "text-generation":  # one input names a whole text, or the prompt of a completion
        named = {column: name for column, name in named.items() if column != ("text", "prompt")[not told[_COMPLETION]]}
    return {column: told[name] for column, name in named.items() if told[name]}


def _technique(reader: _Reader) -> Technique:
    wanted = reader.take("apply_lora", _boolean, True)
    rank = reader.take("lora_r", _at_least_one, 8)
    alpha = reader.take("lora_alpha", _positive, 128.0)
    dropout = reader.take("lora_dropout", _number, 0.0)
    if not wanted:
        return Full(name="full")
    if not 0 <= dropout < 1:
        reader.wrong("lora_dropout", "must be at least 0 and less than 1")
        dropout = 0.0
    return Lora(name="lora", rank=rank, alpha=alpha, dropout=dropout)


class _Reader:
    """Takes values by name, and remembers what was wrong and what nobody took."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.given = dict(given)
        self.known: list[str] = []
        self.problems: list[str] = []

    def take(self, name: str, parse: Callable[[str], Any], default: Any) -> Any:
        self.known.append(name)
        text = self.given.pop(name, None)
        if text is None or str(text).strip() == "":
            return default
        try:
            return parse(str(text).strip())
        except ValueError as error:
            self.wrong(name, f"{error} (it is '{text}')")
            return default

    def wrong(self, name: str, problem: str) -> None:
        self.problems.append(f"{name} {problem}")

    def finish(self) -> tuple[str, ...]:
        notes = tuple(f"{name}: {WITHOUT_EFFECT[name]}" for name in sorted(self.given) if name in WITHOUT_EFFECT)
        unknown = sorted(set(self.given) - set(WITHOUT_EFFECT))
        if unknown:
            supported = ", ".join(sorted([*self.known, *WITHOUT_EFFECT]))
            self.problems.insert(0, f"{', '.join(unknown)}: not supported. Supported hyperparameters are: {supported}")
        if self.problems:
            raise HyperparameterError(f"Invalid hyperparameters: {'; '.join(self.problems)}.")
        return notes


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be an integer") from None


def _at_least_one(text: str) -> int:
    if (value := _integer(text)) < 1:
        raise ValueError("must be at least 1")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("must be a number") from None
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _positive(text: str) -> float:
    if (value := _number(text)) <= 0:
        raise ValueError("must be greater than 0")
    return value


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("must be 'true' or 'false'")
    return text.lower() == "true"


def _one_of(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return text

    return parse


def _first(error: ValueError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:3]) if len(lines) > 2 else lines[0]
