"""Fine-tuning jobs, serverless (MaaS) or on machines of one's own: a handful of hyperparameters, all of them text.

Their names are those that Azure's own serverless component and samples use; the service publishes no list. Whatever
else a recipe says is not offered there, and each row says why.
"""

from __future__ import annotations

from collections.abc import Iterator

from azft.findings import Finding, Severity
from azft.recipe_file import RecipeFile
from azft.targets.table import (
    TECHNIQUE_DETAILS,
    Elsewhere,
    NotOffered,
    Setting,
    Table,
    finding,
    is_set,
    plain,
    told,
    translate,
)

_OWN = "azft's own pipeline takes it: --mode maap, with modes.maap.pipeline: azft"
_ITSELF = "the service chooses it"
_ADAPTER = "the service chooses its adapter"

TASKS = {
    "chat-completion": "chatCompletion",
    "text-generation": "textCompletion",
    "text-classification": "textClassification",
    "question-answering": "questionAnswering",
    "summarization": "textSummarization",
    "token-classification": "tokenClassification",
    "translation": "textTranslation",
}
"""What the service calls azft's tasks."""
CHAT = "chat-completion"
"""The one task of serverless fine-tuning: it reads chats, the column `messages` (docs of 2026-02)."""

FINETUNING: Table = {
    "name": Elsewhere("the job's name, display name and experiment"),
    "description": Elsewhere("the job's description"),
    "task": Elsewhere("fineTuningDetails.taskType"),
    "model": Elsewhere("fineTuningDetails.model"),
    "model_revision": NotOffered(
        "it names a revision of the hub, and the service takes the registry's model",
        "Name the registry's version: model: azureml://registries/<registry>/models/<name>/versions/<version>",
        quiet=True,
    ),
    "trust_remote_code": NotOffered("the service runs no code of the model's", quiet=True),
    "data.train": Elsewhere("fineTuningDetails.trainingData"),
    "data.validation": Elsewhere("fineTuningDetails.validationData"),
    "data.validation_split": NotOffered("the service splits no rows off", "Name a file: data.validation", quiet=True),
    "data.test": NotOffered("the service measures no held-out rows", _OWN, quiet=True),
    "data.columns": Elsewhere("checked: the service reads the column `messages`"),
    "data.prompt": NotOffered("the service has prompts of its own", _OWN, quiet=True),
    "data.labels": NotOffered("the service finds the labels in the rows", quiet=True),
    "data.resolution": NotOffered("the service learns no pictures", _OWN, quiet=True),
    "data.long_rows": NotOffered("the service cuts rows off at max_seq_length"),
    "technique.name": Elsewhere("checked: the service trains adapters"),
    "technique.rank": NotOffered(_ADAPTER, _OWN),
    "technique.alpha": NotOffered(_ADAPTER, _OWN),
    "technique.dropout": NotOffered(_ADAPTER, _OWN),
    "technique.target_modules": NotOffered(_ADAPTER, _OWN),
    **{key: NotOffered(_ADAPTER, _OWN, quiet=True) for key in TECHNIQUE_DETAILS},
    "training.epochs": told("num_train_epochs", lambda s: plain(s.recipe.training.epochs)),
    "training.max_steps": NotOffered("it counts epochs only", "Say training.epochs."),
    "training.learning_rate": told(
        "learning_rate", lambda s: plain(s.recipe.learning_rate), "the technique's default when absent"
    ),
    "training.schedule": NotOffered(_ITSELF, _OWN),
    "training.warmup_ratio": NotOffered(_ITSELF, _OWN),
    "training.global_batch_size": NotOffered(
        "it accumulates no gradients; each of its GPUs takes micro_batch_size sequences a step",
        "Say training.micro_batch_size.",
    ),
    "training.micro_batch_size": told("per_device_train_batch_size", lambda s: str(s.recipe.training.micro_batch_size)),
    "training.max_length": told("max_seq_length", lambda s: str(s.recipe.training.max_length)),
    "training.packing": NotOffered(_ITSELF, _OWN),
    "training.precision": NotOffered(_ITSELF, _OWN),
    "training.weight_decay": NotOffered(_ITSELF, _OWN),
    "training.adam_beta1": NotOffered(_ITSELF, _OWN),
    "training.adam_beta2": NotOffered(_ITSELF, _OWN),
    "training.adam_epsilon": NotOffered(_ITSELF, _OWN),
    "training.max_grad_norm": NotOffered(_ITSELF, _OWN),
    "training.gradient_checkpointing": NotOffered(_ITSELF, _OWN),
    "training.kernels": NotOffered(_ITSELF, _OWN),
    "training.dpo_beta": NotOffered("it tunes by no preferences", _OWN, quiet=True),
    "training.seed": NotOffered("two jobs may draw different numbers", _OWN),
    "training.logging_steps": NotOffered(_ITSELF),
    "training.eval_steps": NotOffered(_ITSELF, _OWN),
    "training.save_steps": NotOffered("it keeps the final model only", _OWN),
    "training.save_total_limit": NotOffered("it keeps the final model only", quiet=True),
    "training.early_stopping_patience": NotOffered("it trains to the end", _OWN),
    "training.early_stopping_threshold": NotOffered("it trains to the end", quiet=True),
    "distribution.strategy": NotOffered("Azure decides how its GPUs share the work", quiet=True),
    "distribution.zero_stage": NotOffered("Azure decides how its GPUs share the work", quiet=True),
    "distribution.offload": NotOffered("Azure decides how its GPUs share the work", quiet=True),
    "distribution.config": NotOffered("Azure decides how its GPUs share the work", quiet=True),
    "evaluation.samples": NotOffered("no prompts are answered before and after", _OWN),
    "evaluation.generate_rows": NotOffered("nothing is measured over generated texts", _OWN, quiet=True),
    "evaluation.max_new_tokens": NotOffered("no prompts are answered before and after", quiet=True),
    "output.model_name": Elsewhere("outputs.registered_model"),
    "output.merge": NotOffered("the service returns one model", quiet=True),
    "modes.local.processes": Elsewhere("another mode's section"),
    "modes.local.weights": Elsewhere("another mode's section"),
}

SERVERLESS: Table = {
    **FINETUNING,
    "modes.maas.region": Elsewhere("checked: the region must offer the model"),
    "modes.maas.route": Elsewhere("which service; this version has one"),
    **{
        f"modes.maap.{key}": Elsewhere("another mode's section")
        for key in (
            "compute", "instance_types", "vm_size", "nodes", "gpus_per_node", "tier", "pipeline", "parameters",
            "max_nodes", "idle_seconds",
        )
    },
}  # fmt: skip

ON_MACHINES: Table = {
    **FINETUNING,
    "modes.maas.region": Elsewhere("another mode's section"),
    "modes.maas.route": Elsewhere("another mode's section"),
    "modes.maap.compute": Elsewhere("computeId"),
    "modes.maap.instance_types": Elsewhere("resources.instanceTypes; Azure takes one of them"),
    "modes.maap.vm_size": Elsewhere("checked, and for --create-compute"),
    "modes.maap.nodes": NotOffered(
        "a fine-tuning job chooses its nodes", "modes.maap.pipeline: azft or system takes it.", quiet=True
    ),
    "modes.maap.gpus_per_node": NotOffered(
        "a fine-tuning job uses the GPUs that it finds", "modes.maap.pipeline: azft or system takes it.", quiet=True
    ),
    "modes.maap.tier": Elsewhere("queueSettings.jobTier: Spot"),
    "modes.maap.pipeline": Elsewhere("chooses this kind of job"),
    "modes.maap.parameters": Elsewhere("further hyperparameters, as they are"),
    "modes.maap.max_nodes": Elsewhere("for --create-compute"),
    "modes.maap.idle_seconds": Elsewhere("for --create-compute"),
}


def hyperparameters(table: Table, setting: Setting) -> dict[str, str]:
    """What the job is told; every value is text."""
    return {name: str(value) for name, value in translate(table, setting).items()}


def mapping_findings(recipe_file: RecipeFile, *, on_machines: bool) -> Iterator[Finding]:
    """Where a recipe's value can't be had from the service."""
    recipe = recipe_file.recipe
    if recipe.technique.name != "lora":
        message = f"`technique.name: {recipe.technique.name}` can't be had: the service trains adapters."
        fix = "Say technique.name: lora, or take --mode maap with pipeline: azft."
        yield finding(recipe_file, "technique.name", "technique", Severity.ERROR, message, fix)
    if on_machines and recipe.task in TASKS and recipe.task != CHAT:
        message = f"Which columns the service reads for {recipe.task} is published nowhere: rows go as they are."
        fix = "Its own pipelines can be told: --mode maap with modes.maap.pipeline: system, or azft for azft's."
        yield finding(recipe_file, "task", "columns-unpublished", Severity.WARNING, message, fix)
    epochs = recipe.training.epochs
    if epochs != int(epochs):
        message = f"`training.epochs: {plain(epochs)}` can't be had: the service counts whole epochs."
        fix = f"Say training.epochs: {max(1, round(epochs))}."
        yield finding(recipe_file, "training.epochs", "epochs", Severity.ERROR, message, fix)
    if not on_machines:
        return
    for name in recipe.modes.maap.parameters:
        path = f"modes.maap.parameters.{name}"
        key = next((k for k, n in _KEYS.items() if n == name and is_set(recipe, k)), None)
        if key is not None:
            message = f"`{name}` is what {key} says; it can't be said twice."
            yield finding(recipe_file, path, "said-twice", Severity.ERROR, message, "Leave one of them out.")
        else:
            message = f"`{name}` is passed on as it is: the service publishes no list to check it against."
            yield finding(recipe_file, path, "unchecked", Severity.INFO, message)


_KEYS = {
    "training.epochs": "num_train_epochs",
    "training.micro_batch_size": "per_device_train_batch_size",
    "training.learning_rate": "learning_rate",
    "training.max_length": "max_seq_length",
}
