"""Which weights move: one row a technique, which prepares a model, and saves, verifies and loads what was trained.

What a recipe may say about each is in `azft.techniques`; a new technique is a class there and a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from azft.errors import AzftError
from azft.training import lora
from azft.training.models import load_model


@dataclass(frozen=True)
class TechniqueRow:
    """What the finetune, evaluate and package steps ask of a technique."""

    prepare: Callable[[Any, Any], Any]
    """(transformers model, the recipe's parameters) -> model whose `requires_grad` says what moves."""
    save: Callable[[Any, Path, torch.dtype], None]
    """Write what was trained into an existing folder; a whole model in the given type, an adapter in its own (fp32)."""
    verify: Callable[[Any, Path], None]
    """Load that folder back; `AzftError` unless it holds exactly what was trained."""
    is_adapter: bool
    """Whether the base stays as it is (and may be kept in the compute type), and is needed beside what was trained."""


def _prepare_full(model: Any, technique: object) -> Any:
    del technique
    return model.requires_grad_(True)


def _save_full(model: Any, folder: Path, dtype: torch.dtype) -> None:
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in model.state_dict().items()}
    model.config.dtype = dtype
    model.save_pretrained(folder, state_dict=state)


def _verify_full(model: Any, folder: Path) -> None:
    saved = load_model(folder).state_dict()
    trained = model.state_dict()
    wrong = sorted(trained.keys() ^ saved.keys())
    wrong += [
        n
        for n in sorted(trained.keys() & saved.keys())
        if not torch.equal(trained[n].cpu().to(saved[n].dtype), saved[n])
    ]
    if wrong:
        raise AzftError(f"The model in {folder} is not the one that was trained: {wrong[0]} differs.")


TECHNIQUES: dict[str, TechniqueRow] = {
    "full": TechniqueRow(prepare=_prepare_full, save=_save_full, verify=_verify_full, is_adapter=False),
    "lora": TechniqueRow(prepare=lora.prepare, save=lora.save, verify=lora.verify, is_adapter=True),
}


def load_trained(base: Path, trained: Path, *, dtype: torch.dtype | None, trust_remote_code: bool = False) -> Any:
    """The tuned model from a finetune step's `trained` folder, whichever technique made it, in evaluation mode.

    Args:
        base: The base model's folder; read only for adapters.
        trained: An adapter's or a whole model's folder.
        dtype: As in `load_model`.
        trust_remote_code: As in `load_model`.
    """
    if not (trained / lora.CONFIG).is_file():
        return load_model(trained, dtype=dtype, trust_remote_code=trust_remote_code)
    return lora.attach(load_model(base, dtype=dtype, trust_remote_code=trust_remote_code), trained)
