"""The two shapes in which a model lies in a registry: a plain Hugging Face folder, and MLflow's with the parts apart.

MLmodel, data/model/{config.json, *.safetensors}, data/tokenizer/{tokenizer.json, ...}
"""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from azft.errors import NotFoundError
from azft.files import write_text


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


def write_mlflow_folder(
    target: Path, *, task: str, tokenizer_files: list[Path], head: str = "AutoModelForCausalLM"
) -> None:
    """Finish an MLflow folder whose `data/model` is filled: the tokenizer's place, and MLmodel, which names `head`."""
    tokenizer = target / "data" / "tokenizer"
    tokenizer.mkdir(parents=True, exist_ok=True)
    for file in tokenizer_files:
        shutil.copyfile(file, tokenizer / file.name)
    content = {
        "flavors": {
            "hftransformersv2": {
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
    write_text(target / "MLmodel", yaml.safe_dump(content, sort_keys=True))


def _home(folder: Path) -> Path | None:
    """The folder with `model/` in it: an MLflow model's data folder."""
    for candidate in (folder / "data", folder / "components", folder, folder / "artifacts"):
        if (candidate / "model" / "config.json").is_file():
            return candidate
    return None
