"""The two shapes in which a model lies in a registry: a plain Hugging Face folder, and MLflow's with the parts apart.

MLmodel, data/model/{config.json, *.safetensors}, data/tokenizer/{tokenizer.json, ...}
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from azft.errors import NotFoundError
from azft.files import write_text
from azft.tasks import TASKS

_FLAVOR = "hftransformersv2"
"""Azure's own: that of the registry's chat models, and of most others that its cards show."""

SIGNATURES = {
    "text-classification": ("input_string",),
    "token-classification": ("input_string",),
    "question-answering": ("question", "context"),
    "summarization": ("input_string",),
    "translation": ("input_string",),
}
"""The inputs that Azure's fine-tuning gives a registry's model of this flavor by task; a model from a hub, and other
tasks, get no signature (azureml-assets, finetune_acft_hf_nlp/src/finetune/finetune.py, MLFLOW_MODEL_SIGNATURES)."""


def plain_folder(folder: Path, scratch: Path) -> Path:
    """A folder that loads with transformers: `folder` itself, or its parts joined (by links) in `scratch`.

    Raises `NotFoundError` when neither shape is there.
    """
    if (folder / "config.json").is_file():
        return folder
    home = _home(folder)
    if home is None:
        raise NotFoundError(f"There is no model in {folder}: neither config.json nor MLmodel with data/model.")
    model, tokenizer = home / "model", home / "tokenizer"
    if not tokenizer.is_dir() or (model / "tokenizer.json").is_file():
        return model
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for part in (tokenizer, model):  # the model's own files win
        for file in sorted(part.iterdir()):
            if file.is_file():
                target = scratch / file.name
                target.unlink(missing_ok=True)
                target.symlink_to(file.resolve())
    return scratch


def task_of(folder: Path) -> str | None:
    """The task of azft's for which an MLflow model was tuned; None for a plain folder."""
    described = folder / "MLmodel"
    content: Any = yaml.safe_load(described.read_text("utf-8")) if described.is_file() else None
    task = ((content or {}).get("flavors") or {}).get(_FLAVOR, {}).get("task_type")
    return task if task in TASKS else None


def write_mlflow_folder(
    target: Path,
    *,
    task: str,
    tokenizer_files: list[Path],
    head: str = "AutoModelForCausalLM",
    inputs: tuple[str, ...] = (),
) -> None:
    """Finish an MLflow folder whose `data/model` is filled: the tokenizer's place, and MLmodel, which names `head`.

    `inputs` are the names of its signature; without any it has none.
    """
    tokenizer = target / "data" / "tokenizer"
    tokenizer.mkdir(parents=True, exist_ok=True)
    for file in tokenizer_files:
        shutil.copyfile(file, tokenizer / file.name)
    content: dict[str, Any] = {
        "flavors": {
            _FLAVOR: {
                "code": None,
                "model_data": "data",
                "task_type": task,
                "hf_pretrained_class": head,
                "huggingface_tokenizer_class": "AutoTokenizer",
            },
            "python_function": {"data": "data", "loader_module": "azureml.evaluate.mlflow.hftransformers"},
        },
        "model_size_bytes": sum(file.stat().st_size for file in (target / "data").rglob("*") if file.is_file()),
    }
    if inputs:
        named = [{"name": name, "type": "string"} for name in inputs]
        content["signature"] = {"inputs": json.dumps(named), "outputs": '[{"type": "string"}]', "params": None}
    write_text(target / "MLmodel", yaml.safe_dump(content, sort_keys=True))


def _home(folder: Path) -> Path | None:
    """The folder with `model/` in it: an MLflow model's data folder."""
    for candidate in (folder / "data", folder / "components", folder, folder / "artifacts"):
        if (candidate / "model" / "config.json").is_file():
            return candidate
    return None
