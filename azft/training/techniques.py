"""Which weights move: one row a technique, which prepares a model, and saves, verifies and loads what was trained.

What a recipe may say about each is in `azft.techniques`; a new technique is a class there and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from azft.techniques import TechniqueBase, VirtualTokens
from azft.training import adapters, freeze, ia3, low_rank, prompt_learning
from azft.training.batches import epoch_order
from azft.training.low_rank import Batches
from azft.training.models import empty_model, parameter_counts, save_model, verify_saved
from azft.training.objectives import OBJECTIVES
from azft.training.painter import Painter

if TYPE_CHECKING:
    from azft.data.dataset import TokenDataset


class Prepare(Protocol):
    """Applies a technique to a model, with training data where it needs some."""

    def __call__(self, model: Any, technique: Any, batches: Batches | None = None) -> Any: ...


@dataclass(frozen=True)
class TechniqueRow:
    """What the finetune step asks of a technique."""

    prepare: Prepare
    """(transformers model, the recipe's parameters, training data) -> model whose `requires_grad` says what moves."""
    save: Callable[[Any, Path, torch.dtype], None] = adapters.save
    """Write what was trained into an existing folder; a whole model in the given type, an adapter in its own (fp32)."""
    verify: Callable[[Any, Path], None] = adapters.verify
    """Load that folder back; `AzftError` unless it holds exactly what was trained."""


def _prepare_full(model: Any, technique: object) -> Any:
    del technique
    moves = model.unet if isinstance(model, Painter) else model
    moves.requires_grad_(True)
    return model


def _without_data(function: Callable[[Any, Any], Any]) -> Prepare:
    def prepare(model: Any, technique: Any, batches: Batches | None = None) -> Any:
        del batches
        return function(model, technique)

    return prepare


TECHNIQUES: dict[str, TechniqueRow] = {
    "full": TechniqueRow(_without_data(_prepare_full), save=save_model, verify=verify_saved),
    "freeze": TechniqueRow(_without_data(freeze.prepare), save=save_model, verify=verify_saved),
    "lora": TechniqueRow(low_rank.prepare),
    "dora": TechniqueRow(low_rank.prepare),
    "qlora": TechniqueRow(low_rank.prepare),
    "ia3": TechniqueRow(_without_data(ia3.prepare)),
    "prompt-tuning": TechniqueRow(_without_data(prompt_learning.prepare_prompt_tuning)),
    "prefix-tuning": TechniqueRow(_without_data(prompt_learning.prepare_prefix_tuning)),
    "p-tuning": TechniqueRow(_without_data(prompt_learning.prepare_p_tuning)),
}


@dataclass(frozen=True)
class TrainingData:
    """What a technique may have to know of the data: how long documents are, and what they look like to the model."""

    dataset: TokenDataset
    seed: int
    device: torch.device

    @property
    def longest(self) -> int:
        """Tokens of the longest document."""
        return int(np.diff(self.dataset.document_offsets).max())

    def batches(self, least: int) -> Iterator[dict[str, Any]]:
        """The first epoch's sequences as a model's arguments, at least so many tokens each; equal on all ranks."""
        objective, waiting, tokens = OBJECTIVES[self.dataset.objective], [], 0
        for sequence in epoch_order(len(self.dataset), seed=self.seed, epoch=0).tolist():
            waiting.append(sequence)
            tokens += int(self.dataset.sequence_lengths[sequence])
            # A classification's pooler sees one vector a document, so there must be as many documents.
            if tokens >= least and (objective.problem is None or len(waiting) >= least):
                yield objective.batch_of(self.dataset, waiting).to(self.device).model_inputs
                waiting, tokens = [], 0


def prepare(model: Any, technique: TechniqueBase, data: TrainingData | None = None) -> Any:
    """The model with its technique applied: `requires_grad` says which weights move.

    Args:
        model: A freshly loaded transformers model; on meta too, for its shapes.
        technique: The recipe's parameters.
        data: Training data, for initialisations that look at them and to refuse what would not fit.

    Raises:
        UsageError: The technique does not fit the model; the message says what would.
    """
    if data is not None and isinstance(technique, VirtualTokens):
        prompt_learning.check_room(model, technique, data.longest)
    return TECHNIQUES[technique.name].prepare(model, technique, data.batches if data else None)


def trainable_share(
    folder: Path,
    technique: TechniqueBase,
    *,
    objective: str = "next-token",
    labels: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> tuple[int, int]:
    """How many weights would be trained, and of how many, from a model's config.json alone: no weights are loaded.

    EVA hands ranks out by the data, so that its count can differ by what it moves between modules of different width.
    """
    model = empty_model(folder, **OBJECTIVES[objective].loading(labels), trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        return parameter_counts(prepare(model, technique))
