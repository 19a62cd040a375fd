"""DeepSpeed's configuration: made from the recipe, or the user's own, which must not say anything else than the recipe.

Pure values, so that a recipe is judged where there is no DeepSpeed. Keys are those of
https://www.deepspeed.ai/docs/config-json (October 2026). DeepSpeed passes over a top-level key that it doesn't know, so
here only those are taken that azft knows.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azft.errors import UsageError

if TYPE_CHECKING:
    from azft.recipe import Distribution, Training

PASSED_ON = {
    "zero_optimization",
    "communication_data_type",
    "prescale_gradients",
    "gradient_predivide_factor",
    "wall_clock_breakdown",
    "memory_breakdown",
    "comms_logger",
    "flops_profiler",
    "steps_per_print",
    "dump_state",
}
"""Keys that go to DeepSpeed as they are, but for what the recipe says about `zero_optimization`."""
_COMPARED = {
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "fp16",
    "bf16",
    "bfloat16",
    "optimizer",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
}
"""Keys that must agree with the recipe; what azft gives DeepSpeed then comes from the recipe."""
_ELSEWHERE = {
    "scheduler": "training.schedule and training.warmup_ratio say how the learning rate goes",
    "activation_checkpointing": "training.gradient_checkpointing says it",
    "amp": "training.precision says it",
    "torch_autocast": "training.precision says it",
    "data_types": "gradients are added up in fp32",
    "managed_gradient_accumulation": "a global batch ends where the recipe says",
    "curriculum_learning": "the recipe's seed decides which rows come when",
    "data_efficiency": "the recipe's seed decides which rows come when",
    "checkpoint": "azft's checkpoints hold whole weights",
    "tensorboard": "azft writes metrics.jsonl",
    "wandb": "azft writes metrics.jsonl",
    "csv_monitor": "azft writes metrics.jsonl",
}
"""Keys that have no place here, and why."""


@dataclass(frozen=True)
class Contradiction:
    """A key of the user's configuration that says something else than the recipe, or that azft can't honour."""

    key: str
    """With dots: zero_optimization.stage."""
    message: str
    fix: str

    def __str__(self) -> str:
        return f"DeepSpeed's configuration, `{self.key}`: {self.message}."


def make_config(training: Training, distribution: Distribution, *, ranks: int, on_gpu: bool) -> dict[str, Any]:
    """What DeepSpeed is given: the user's own keys, and all that the recipe says.

    The accumulation steps are those of a full global batch; the loop tells the engine where each one really ends.
    """
    given = distribution.config if isinstance(distribution.config, dict) else {}
    config = {key: value for key, value in given.items() if key in PASSED_ON}
    zero = dict(config.get("zero_optimization") or {})
    zero["stage"] = distribution.zero_stage
    for name, offloaded in (
        ("offload_optimizer", distribution.offload != "none"),
        ("offload_param", distribution.offload == "all"),
    ):
        if offloaded:
            zero[name] = {"pin_memory": on_gpu, **(zero.get(name) or {}), "device": "cpu"}
        else:
            zero.pop(name, None)
    return {
        "steps_per_print": 10**9,  # the loop says all there is to say
        **config,
        "zero_optimization": zero,
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": math.ceil(training.global_batch_size / (training.micro_batch_size * ranks)),
        "gradient_clipping": training.max_grad_norm,
        # torch's AdamW, offloaded or not: DeepSpeed's own would have to be compiled.
        "zero_force_ds_cpu_optimizer": False,
    }


def require_agreement(
    config: Mapping[str, Any], training: Training, distribution: Distribution, *, ranks: int | None = None
) -> None:
    """Raise `UsageError` with everything in the user's configuration that contradicts the recipe."""
    found = list(contradictions(config, training, distribution, ranks=ranks))
    if found:
        raise UsageError(
            " ".join(map(str, found)),
            fix=" ".join(dict.fromkeys(wrong.fix for wrong in found)),
        )


def contradictions(
    config: Mapping[str, Any], training: Training, distribution: Distribution, *, ranks: int | None = None
) -> Iterator[Contradiction]:
    """What in the user's configuration can't stand beside the recipe; `auto` agrees with everything.

    `ranks`, where it is known, decides about the accumulation steps.
    """
    yield from _unknown(config)
    micro, whole = training.micro_batch_size, training.global_batch_size
    yield from _differs(config, "train_batch_size", whole, "training.global_batch_size")
    yield from _differs(config, "train_micro_batch_size_per_gpu", micro, "training.micro_batch_size")
    yield from _differs(config, "gradient_clipping", training.max_grad_norm, "training.max_grad_norm")
    steps = config.get("gradient_accumulation_steps", "auto")
    if steps != "auto" and ranks is not None and steps != math.ceil(whole / (micro * ranks)):
        message = f"it is {steps}, and a global batch of {whole} in micro-batches of {micro} on {ranks} ranks takes "
        yield Contradiction(
            "gradient_accumulation_steps",
            f"{message}{math.ceil(whole / (micro * ranks))}",
            "Leave gradient_accumulation_steps out.",
        )
    yield from _precision(config, training)
    yield from _optimizer(config, training)
    yield from _zero(config, distribution)


def _unknown(config: Mapping[str, Any]) -> Iterator[Contradiction]:
    known = PASSED_ON | _COMPARED
    for key in config:
        if key in _ELSEWHERE:
            yield Contradiction(key, f"it has no place here: {_ELSEWHERE[key]}", f"Leave {key} out.")
        elif key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            fix = f"Did you mean {near[0]}?" if near else f"Leave {key} out."
            yield Contradiction(key, "azft does not know this key of DeepSpeed's", fix)


def _differs(config: Mapping[str, Any], key: str, value: float, recipe_key: str) -> Iterator[Contradiction]:
    given = config.get(key, "auto")
    if given not in ("auto", value):
        yield Contradiction(
            key,
            f"it is {given}, and the recipe's {recipe_key} is {value:g}",
            f"Set {recipe_key}: {given}, or leave {key} out.",
        )


def _precision(config: Mapping[str, Any], training: Training) -> Iterator[Contradiction]:
    for key, name in (("fp16", "fp16"), ("bf16", "bf16"), ("bfloat16", "bf16")):
        section = config.get(key) or {}
        enabled = section.get("enabled", "auto") if isinstance(section, Mapping) else section
        if enabled is True and training.precision != name:
            yield Contradiction(
                f"{key}.enabled",
                f"it is true, and the recipe's training.precision is {training.precision}",
                f"Set training.precision: {name}, or leave {key} out.",
            )
        if enabled is False and training.precision == name:
            yield Contradiction(
                f"{key}.enabled",
                f"it is false, and the recipe's training.precision is {name}",
                f"Set training.precision: fp32, or leave {key} out.",
            )


def _optimizer(config: Mapping[str, Any], training: Training) -> Iterator[Contradiction]:
    section = config.get("optimizer")
    if not isinstance(section, Mapping):
        return
    kind = section.get("type", "AdamW")
    if kind != "AdamW":
        yield Contradiction("optimizer.type", f"it is {kind}, and azft trains with AdamW", "Leave optimizer out.")
    wanted: dict[str, tuple[Any, str]] = {
        "lr": (training.learning_rate, "training.learning_rate"),
        "betas": ([training.adam_beta1, training.adam_beta2], "training.adam_beta1 and adam_beta2"),
        "eps": (training.adam_epsilon, "training.adam_epsilon"),
        "weight_decay": (training.weight_decay, "training.weight_decay"),
    }
    for name, given in (section.get("params") or {}).items():
        if name in ("torch_adam", "adam_w_mode") and given is True:
            continue
        if name not in wanted:
            yield Contradiction(f"optimizer.params.{name}", "azft's AdamW has no such parameter", f"Leave {name} out.")
            continue
        value, recipe_key = wanted[name]
        value = value if value is not None else "the technique's default"
        if given not in ("auto", value):
            yield Contradiction(
                f"optimizer.params.{name}",
                f"it is {given}, and the recipe's {recipe_key} is {value}",
                f"Say it in {recipe_key}, or leave {name} out.",
            )


def _zero(config: Mapping[str, Any], distribution: Distribution) -> Iterator[Contradiction]:
    zero = config.get("zero_optimization")
    if not isinstance(zero, Mapping):
        return
    stage = zero.get("stage", distribution.zero_stage)
    if stage != distribution.zero_stage:
        yield Contradiction(
            "zero_optimization.stage",
            f"it is {stage}, and the recipe's distribution.zero_stage is {distribution.zero_stage}",
            f"Set distribution.zero_stage: {stage}." if stage in (1, 2, 3) else "Set it to 1, 2 or 3.",
        )
    offloads = {"none": (), "optimizer": ("optimizer",), "all": ("optimizer", "param")}[distribution.offload]
    for what in ("optimizer", "param"):
        key = f"offload_{what}"
        section = zero.get(key)
        if section is None:
            continue
        device = section.get("device", "cpu") if isinstance(section, Mapping) else section
        if device not in ("cpu", "none"):
            yield Contradiction(
                f"zero_optimization.{key}.device",
                f"it is {device}, and azft offloads to the host's memory only",
                "Set it to cpu.",
            )
        elif (device == "cpu") != (what in offloads):
            wish = ("all" if what == "param" else "optimizer") if device == "cpu" else "none"
            yield Contradiction(
                f"zero_optimization.{key}.device",
                f"it is {device}, and the recipe's distribution.offload is {distribution.offload}",
                f"Set distribution.offload: {wish}.",
            )
