"""Which weights move: one row a technique, which prepares a model, and saves, verifies and loads what was trained.

What a recipe may say about each is in `azft.techniques`; a new technique is a class there and a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from azft.training import lora
from azft.training.models import save_model, verify_saved


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


TECHNIQUES: dict[str, TechniqueRow] = {
    "full": TechniqueRow(prepare=_prepare_full, save=save_model, verify=verify_saved, is_adapter=False),
    "lora": TechniqueRow(prepare=lora.prepare, save=lora.save, verify=lora.verify, is_adapter=True),
}
