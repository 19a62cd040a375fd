"""The findings of a recipe's checks in the words of an Azure ML job file, whose keys have other names.

The checks are the same for both, and say what to do about a recipe's keys; a job file is advised what it can say.
"""

from __future__ import annotations

import re
from dataclasses import replace

from azft.findings import Finding

_OWN = "a recipe with modes.maap.pipeline: azft"
"""What only azft's own pipeline does, only a recipe can ask for."""
_A_RECIPE = _OWN.capitalize()
_SENTENCES = (
    (
        r"(?:Say|Take a workspace in [\w ]+, and say) modes\.maas\.region: (\w+)",
        r"Take a workspace in \1 (a job file names none)",
    ),
    (r"--mode local, or maap with pipeline: azft", f"--mode local, or {_OWN}"),
    (r"--mode maap with pipeline: azft", _A_RECIPE),
    (r"Only modes\.maap\.pipeline: finetuning", "Only a fine-tuning job"),
    (r"modes\.maap\.pipeline: azft or system takes", f"{_A_RECIPE} (or system) takes"),
    (r"modes\.maap\.pipeline: azft", _A_RECIPE),
    (r"Say `vm_size` beside it, or ask: azft plan --check-remote", "Ask: azft plan --from-azureml ... --check-remote"),
    (r", or pipeline: azft", f", or {_OWN}"),
    (r"--mode maap", "name `compute` or `resources.instance_types`"),
    (r", or set data\.long_rows to drop, truncate or split|, or choose another data\.long_rows", ""),
)
"""What a check says -> the same to a job file, in this order."""
_KEYS = {
    "modes.maap.compute": "compute",
    "modes.maap.instance_types": "resources.instance_types",
    "modes.maap.tier": "queue_settings.job_tier",
    "output.model_name": "outputs.registered_model.name",
    "data.validation_split": "validation_data",
    "data.validation": "validation_data",
    "data.train": "training_data",
    "training.max_length": "hyperparameters.max_seq_length",
    "training.learning_rate": "hyperparameters.learning_rate",
    "training.epochs": "hyperparameters.num_train_epochs",
}
_KEY = re.compile(rf"(?<![\w/.-])({'|'.join(map(re.escape, _KEYS))})(?![\w/-]|\.\w)")
"""A key by itself: a file may be called data.train.jsonl."""


def in_a_job_files_words(finding: Finding) -> Finding:
    """The same finding, naming the job file's keys in its message and in what to do."""
    return replace(finding, message=_said(finding.message), fix=_said(finding.fix))


def _said(text: str) -> str:
    for pattern, words in _SENTENCES:
        text = re.sub(pattern, words, text)
    return _KEY.sub(lambda found: _KEYS[found[1]], text)
