"""The registry's own pipelines: from the recipe to their inputs, and the rules that Azure checks only after a queue."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from azft.catalog.system_pipelines import SystemInput, SystemPipeline
from azft.findings import Finding, Severity
from azft.recipe import Recipe
from azft.recipe_errors import closest
from azft.recipe_file import RecipeFile
from azft.targets.columns import INPUTS, SQUAD, column_findings, column_inputs
from azft.targets.table import (
    TECHNIQUE_DETAILS,
    Elsewhere,
    NotOffered,
    Scalar,
    Setting,
    Table,
    Told,
    finding,
    is_set,
    told,
)
from azft.techniques import Full, Lora

_OWN = "modes.maap.pipeline: azft takes it."
_DEEPSPEED = "modes.maap.parameters: {apply_deepspeed: 'true', deepspeed_stage: '2', deepspeed: <file>}"
_PRECISION = {"auto": "16", "bf16": "16", "fp16": "16", "fp32": "32"}
DATA_INPUTS = {"train": "train_file_path", "validation": "validation_file_path", "test": "test_file_path"}
"""The pipeline's inputs for the recipe's files."""
COLUMN_INPUTS = tuple(dict.fromkeys([*(name for task in INPUTS.values() for name in task.values()), *SQUAD]))
FORBIDDEN = ("'", "\\")
"""The service pastes values into a shell command."""


def _lora(setting: Setting) -> Mapping[str, Scalar]:
    technique = setting.recipe.technique
    if not isinstance(technique, Lora):
        return {"apply_lora": "false"}
    alpha = technique.alpha
    return {
        "apply_lora": "true",
        "lora_r": technique.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": technique.dropout,
    }


def _accumulation(setting: Setting) -> Scalar:
    training = setting.recipe.training
    return max(1, training.global_batch_size // (training.micro_batch_size * setting.ranks))


def _scheduler(setting: Setting) -> Scalar:
    training = setting.recipe.training
    warm = training.schedule == "constant" and training.warmup_ratio > 0
    return "constant_with_warmup" if warm else training.schedule


def steps_of(setting: Setting) -> int | None:
    """Optimizer steps of the whole training, a row a sequence; None when the rows could not be counted."""
    training = setting.recipe.training
    if training.max_steps is not None:
        return training.max_steps
    if setting.rows is None:
        return None
    batch = training.micro_batch_size * setting.ranks * int(_accumulation(setting))
    return math.ceil(math.ceil(setting.rows / batch) * training.epochs)


def _warmup(setting: Setting) -> Scalar:
    steps = steps_of(setting) or 0
    return math.ceil(round(setting.recipe.training.warmup_ratio * steps, 6))


def _evaluation(setting: Setting) -> Mapping[str, Scalar]:
    every = setting.recipe.training.eval_steps
    return {"evaluation_strategy": "epoch"} if every is None else {"evaluation_strategy": "steps", "eval_steps": every}


def _stopping(setting: Setting) -> Mapping[str, Scalar]:
    training = setting.recipe.training
    if training.early_stopping_patience is None:
        return {"apply_early_stopping": "false"}
    return {
        "apply_early_stopping": "true",
        "early_stopping_patience": training.early_stopping_patience,
        "early_stopping_threshold": training.early_stopping_threshold,
    }


def _batch(setting: Setting) -> Mapping[str, Scalar]:
    size = setting.recipe.training.micro_batch_size
    return {"per_device_train_batch_size": size, "per_device_eval_batch_size": size}


def _epochs(setting: Setting) -> Scalar:
    epochs = setting.recipe.training.epochs
    return int(epochs) if epochs == int(epochs) else epochs


SYSTEM: Table = {
    "name": Elsewhere("the job's name, display name and experiment"),
    "description": Elsewhere("the job's description"),
    "task": Elsewhere("which pipeline"),
    "model": Elsewhere("mlflow_model_path (a registry's), pytorch_model_path (a folder) or huggingface_id"),
    "model_revision": NotOffered(
        "the pipeline takes the newest, or the registry's version",
        "Name the registry's version: model: azureml://registries/<registry>/models/<name>/versions/<version>",
        quiet=True,
    ),
    "trust_remote_code": NotOffered("the pipeline decides whose code it runs", _OWN, quiet=True),
    "data.train": Elsewhere("train_file_path"),
    "data.validation": Elsewhere("validation_file_path"),
    "data.validation_split": NotOffered(
        "the pipeline splits by its own rule", "Name a file: data.validation", quiet=True
    ),
    "data.test": Elsewhere("test_file_path"),
    "data.columns": Told(COLUMN_INPUTS, column_inputs, "those of the task; chats must stand in `messages`"),
    "data.prompt": NotOffered("the service has prompts of its own", _OWN, quiet=True),
    "data.labels": NotOffered("the service finds the labels in the rows", quiet=True),
    "data.resolution": NotOffered("the service learns no pictures", _OWN, quiet=True),
    "data.long_rows": NotOffered("the pipeline cuts rows off at max_seq_length", _OWN),
    "technique.name": Told(("apply_lora",), _lora),
    "technique.rank": Told(("lora_r",), _lora),
    "technique.alpha": Told(("lora_alpha",), _lora, "a whole number there"),
    "technique.dropout": Told(("lora_dropout",), _lora),
    "technique.target_modules": NotOffered("the pipeline chooses the modules", _OWN),
    **{key: NotOffered("the pipeline has no such setting", _OWN, quiet=True) for key in TECHNIQUE_DETAILS},
    "training.epochs": told("num_train_epochs", _epochs, "a whole number there"),
    "training.max_steps": told("max_steps", lambda s: s.recipe.training.max_steps or -1),
    "training.learning_rate": told(
        "learning_rate", lambda s: s.recipe.learning_rate, "the technique's default when absent"
    ),
    "training.schedule": told("lr_scheduler_type", _scheduler),
    "training.warmup_ratio": told("warmup_steps", _warmup, "in steps, from the rows and the batch size"),
    "training.global_batch_size": told(
        "gradient_accumulation_steps", _accumulation, "global batch / (micro-batch x GPUs)"
    ),
    "training.micro_batch_size": Told(("per_device_train_batch_size", "per_device_eval_batch_size"), _batch),
    "training.max_length": told("max_seq_length", lambda s: s.recipe.training.max_length),
    "training.packing": NotOffered("the pipeline pads rows, it doesn't pack them", _OWN),
    "training.precision": told(
        "precision", lambda s: _PRECISION[s.recipe.training.precision], "16 for auto, bf16 and fp16, 32 for fp32"
    ),
    "training.weight_decay": told("weight_decay", lambda s: s.recipe.training.weight_decay),
    "training.adam_beta1": told("adam_beta1", lambda s: s.recipe.training.adam_beta1),
    "training.adam_beta2": told("adam_beta2", lambda s: s.recipe.training.adam_beta2),
    "training.adam_epsilon": told("adam_epsilon", lambda s: s.recipe.training.adam_epsilon),
    "training.max_grad_norm": told("max_grad_norm", lambda s: s.recipe.training.max_grad_norm),
    "training.gradient_checkpointing": NotOffered("the pipeline chooses it", _OWN),
    "training.kernels": NotOffered("the pipeline chooses them", _OWN),
    "training.dpo_beta": NotOffered("it tunes by no preferences", _OWN, quiet=True),
    "training.seed": told("seed", lambda s: s.recipe.training.seed),
    "training.logging_steps": told("logging_steps", lambda s: s.recipe.training.logging_steps),
    "training.eval_steps": Told(("evaluation_strategy", "eval_steps"), _evaluation),
    "training.save_steps": NotOffered("the pipeline saves after each evaluation", "Say training.eval_steps."),
    "training.save_total_limit": told("save_total_limit", lambda s: s.recipe.training.save_total_limit),
    "training.early_stopping_patience": Told(("apply_early_stopping", "early_stopping_patience"), _stopping),
    "training.early_stopping_threshold": Told(("early_stopping_threshold",), _stopping, "with a patience only"),
    "distribution.strategy": NotOffered(
        "the pipeline starts a rank on each GPU by itself", "modes.maap.gpus_per_node says how many.", quiet=True
    ),
    "distribution.zero_stage": NotOffered("the pipeline has inputs of its own for it", _DEEPSPEED, quiet=True),
    "distribution.offload": NotOffered("the pipeline takes it from a file of its own", _DEEPSPEED, quiet=True),
    "distribution.config": NotOffered("the pipeline has an input of its own for it", _DEEPSPEED, quiet=True),
    "evaluation.samples": NotOffered("the pipeline answers no prompts before and after", _OWN),
    "evaluation.generate_rows": NotOffered("the pipeline has metrics of its own", _OWN, quiet=True),
    "evaluation.max_new_tokens": NotOffered("the pipeline answers no prompts before and after", _OWN, quiet=True),
    "output.model_name": Elsewhere("the name under which the result is registered; a tag of the job"),
    "output.merge": told("merge_lora_weights", lambda s: str(s.recipe.merges).lower()),
    "modes.local.processes": Elsewhere("another mode's section"),
    "modes.local.weights": Elsewhere("another mode's section"),
    "modes.maas.region": Elsewhere("another mode's section"),
    "modes.maas.route": Elsewhere("another mode's section"),
    "modes.maap.compute": Elsewhere("compute_* of every step"),
    "modes.maap.instance_types": Elsewhere("instance_type_* of every step"),
    "modes.maap.vm_size": Elsewhere("checked, and for --create-compute"),
    "modes.maap.nodes": Elsewhere("num_nodes_finetune"),
    "modes.maap.gpus_per_node": Elsewhere("number_of_gpu_to_use_finetuning"),
    "modes.maap.tier": Elsewhere("the cluster's; for --create-compute"),
    "modes.maap.pipeline": Elsewhere("chooses this pipeline"),
    "modes.maap.parameters": Elsewhere("further inputs, as they are"),
    "modes.maap.max_nodes": Elsewhere("for --create-compute"),
    "modes.maap.idle_seconds": Elsewhere("for --create-compute"),
}


def machine_parameters(recipe: Recipe, gpus_per_node: int) -> dict[str, Scalar]:
    """Where the pipeline's steps run."""
    maap = recipe.modes.maap
    steps = ("model_import", "preprocess", "finetune", "model_evaluation")
    parameters: dict[str, Scalar] = {f"compute_{step}": maap.compute or "serverless" for step in steps}
    if maap.compute is None and maap.instance_types:
        parameters |= {f"instance_type_{step}": maap.instance_types[0] for step in steps}
    return {**parameters, "num_nodes_finetune": maap.nodes, "number_of_gpu_to_use_finetuning": gpus_per_node}


def mapping_findings(recipe_file: RecipeFile, setting: Setting) -> Iterator[Finding]:
    """Where a recipe's value can't be said exactly in the pipeline's words."""
    recipe = recipe_file.recipe
    yield from column_findings(recipe_file, setting.columns)
    if not isinstance(recipe.technique, Lora | Full):
        message = f"`technique.name: {recipe.technique.name}` can't be had: the pipeline knows lora and full."
        fix = f"Say technique.name: lora, or take {_OWN.removesuffix(' takes it.')}."
        yield finding(recipe_file, "technique.name", "technique", Severity.ERROR, message, fix)
    training = recipe.training
    step = training.micro_batch_size * setting.ranks
    if training.global_batch_size % step:
        yield finding(
            recipe_file, "training.global_batch_size", "batch-does-not-divide", Severity.ERROR,
            f"A global batch of {training.global_batch_size} can't be shared by {setting.ranks} GPUs with "
            f"{training.micro_batch_size} sequences each.",
            f"Take a multiple of {step}.",
        )  # fmt: skip
    if steps_of(setting) is None and training.warmup_ratio > 0:
        severity = Severity.WARNING if is_set(recipe, "training.warmup_ratio") else Severity.INFO
        yield finding(
            recipe_file, "training.warmup_ratio", "no-warmup", severity,
            "The pipeline wants the warm-up in steps, and the rows of this format are not counted: there is none.",
            "Say it in modes.maap.parameters: {warmup_steps: N}, or give the rows as JSON lines.",
        )  # fmt: skip
    if training.precision == "bf16":
        yield finding(
            recipe_file, "training.precision", "precision-is-16", Severity.INFO,
            "The pipeline knows 16 and 32 bits only; whether its 16 bits are bfloat16, it decides by the GPU.",
        )  # fmt: skip
    if training.early_stopping_threshold and training.early_stopping_patience is None:
        yield finding(
            recipe_file, "training.early_stopping_threshold", "not-offered", Severity.WARNING,
            "`training.early_stopping_threshold` has no effect without a patience.",
            "Say training.early_stopping_patience.",
        )  # fmt: skip


def keys_of_parameters() -> dict[str, str]:
    """The recipe's key behind each of the pipeline's inputs."""
    return {name: path for path, row in SYSTEM.items() if isinstance(row, Told) for name in row.names}


def own_parameters(
    recipe_file: RecipeFile, pipeline: SystemPipeline, mapped: Mapping[str, Scalar]
) -> Iterator[Finding]:
    """What is wrong with the names in `modes.maap.parameters`."""
    recipe = recipe_file.recipe
    keys = keys_of_parameters()
    for name in recipe.modes.maap.parameters:
        path = f"modes.maap.parameters.{name}"
        if name not in pipeline.inputs:
            fix = closest(name, list(pipeline.inputs)) or "docs/azure.md lists its inputs."
            yield finding(
                recipe_file, path, "unknown-parameter", Severity.ERROR, f"{pipeline.name} has no input `{name}`.", fix
            )
        elif name in mapped and (name not in keys or is_set(recipe, keys[name])):
            said = keys.get(name, "the rest of modes.maap")
            message = f"`{name}` is what {said} says; it can't be said twice."
            yield finding(recipe_file, path, "said-twice", Severity.ERROR, message, "Leave one of them out.")


def check_parameters(
    pipeline: SystemPipeline, parameters: Mapping[str, Scalar], deepspeed: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, str, str]]:
    """What the service would refuse, after minutes in its queue: (input, what is wrong, what to do).

    `deepspeed` is the content of the configuration file that the input of that name refers to.
    """
    for name, value in parameters.items():
        yield from _wrong_value(name, value, pipeline.inputs[name])
    for name, spec in pipeline.inputs.items():
        if spec.required and name not in parameters:
            yield name, "it is required", f"Say which column it is: {name}."
    defaults = {name: spec.default for name, spec in pipeline.inputs.items() if spec.default is not None}
    effective = {**defaults, **parameters}
    if "true" == effective.get("apply_deepspeed") == effective.get("auto_find_batch_size"):
        yield "auto_find_batch_size", "it can't be had together with apply_deepspeed", "Turn one of them off."
    rate = effective.get("learning_rate")
    if isinstance(rate, int | float) and rate <= 0:
        yield "learning_rate", "it must be above 0", "Say training.learning_rate."
    if effective.get("apply_early_stopping") == "true" and effective.get("evaluation_strategy") == "disable":
        yield "apply_early_stopping", "early stopping needs evaluation", "Set evaluation_strategy to epoch or steps."
    stage = (deepspeed or {}).get("zero_optimization", {})
    if stage.get("stage") == 3 and stage.get("stage3_gather_16bit_weights_on_model_save") is not True:
        fix = "Put `stage3_gather_16bit_weights_on_model_save: true` into its zero_optimization."
        yield "deepspeed", "with stage 3 the weights would not be gathered when the model is saved", fix
    if effective.get("apply_ort") == "true":
        yield "apply_ort", "the service always turns it off", "Leave it out."


def _wrong_value(name: str, value: Scalar, spec: SystemInput) -> Iterator[tuple[str, str, str]]:
    if isinstance(value, str):
        if found := [character for character in FORBIDDEN if character in value]:
            yield name, f"`{value}` holds {' and '.join(found)}, which the service forbids", "Write it without."
        if spec.type in ("integer", "number"):
            yield name, f"`{value}` is text, and it takes a number", "Write it without quotes."
    elif spec.type == "string":
        yield name, f"{value} is a number, and it takes text", f'Write it in quotes: "{value}".'
    elif spec.type == "integer" and not isinstance(value, int):
        yield name, f"{value} is no whole number", f"Take {round(value)}."
    if spec.one_of and value not in spec.one_of and isinstance(value, str):
        yield name, f"`{value}` is none of {', '.join(spec.one_of)}", "Take one of them."
    if spec.min is not None and isinstance(value, int | float) and value < spec.min:
        yield name, f"{value} is below {spec.min}", f"Take at least {spec.min}."
