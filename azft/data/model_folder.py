"""Where in a model's folder the Hugging Face files are: at its root, or in the parts of an MLflow model.

Models of Azure's registries come as MLflow models. Two layouts are known: Azure's own (`data/model`, `data/tokenizer`)
and that of MLflow's transformers flavour (`model`, `components/tokenizer`). A registry may also put either one folder
deeper. Whoever reads a model's files asks here first; a plain folder is its own answer.
"""

from __future__ import annotations

from pathlib import Path

_MODEL = ("data/model", "model", "artifacts/model", "components/model")
_TOKENIZER = ("data/tokenizer", "components/tokenizer", "tokenizer", "artifacts/tokenizer")


def find_model_folder(folder: Path) -> Path:
    """The folder with config.json and the weights; `folder` itself where there is none below it."""
    return _find(_root(folder), "config.json", _MODEL) or folder


def find_tokenizer_folder(folder: Path) -> Path:
    """The folder with tokenizer.json: beside the model, or a part of its own; else where the model is."""
    root = _root(folder)
    model = find_model_folder(folder)
    if (model / "tokenizer.json").is_file():
        return model
    return _find(root, "tokenizer.json", _TOKENIZER) or model


def _find(root: Path, file: str, parts: tuple[str, ...]) -> Path | None:
    candidates = (root, *(root / part for part in parts))
    return next((candidate for candidate in candidates if (candidate / file).is_file()), None)


def _root(folder: Path) -> Path:
    """The model's own root: `folder`, or its one subfolder that looks like a model."""
    if _find(folder, "config.json", _MODEL) is not None or not folder.is_dir():
        return folder
    below = [child for child in folder.iterdir() if child.is_dir() and _find(child, "config.json", _MODEL) is not None]
    return below[0] if len(below) == 1 else folder
