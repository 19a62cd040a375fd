"""How many of a model's weights a recipe trains, from the headers of its files: nothing is loaded, no torch asked for.

Exact, or nothing is said: for models that write, of the architectures below, whose files have the same modules as the
model in memory. The tests hold the counts against `azft.training.techniques.trainable_share`, which builds the model
without weights. Others are counted when training starts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from azft.catalog.folder import read_config
from azft.catalog.modules import weight_shapes
from azft.data.model_folder import find_model_folder, model_kind
from azft.recipe import Recipe
from azft.tasks import TASKS
from azft.techniques import Dora, Freeze, Full, LowRank, PromptTuning, Qlora, TechniqueBase
from azft.training.stand_in import MARK
from azft.training.stand_in_architectures import ARCHITECTURES

_NEW_HEADS = {"class", "tag", "span"}
"""Renderings whose models get a head that the files don't have."""
_EMBEDDINGS = {"embed_tokens", "shared"}
_TABLES = _EMBEDDINGS | {"relative_attention_bias"}
"""Modules with a weight of two dimensions that are no linear ones."""
_HEAD = "lm_head.weight"
_COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
"""Names under which some of T5's files hold `shared.weight` again."""
_NUMBER = re.compile(r"\.(\d+)\.")

Shapes = Mapping[str, tuple[int, ...]]


class TrainableShare(BaseModel):
    """Weights that are trained, of all that the model has then (an adapter's own included)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained: int
    total: int

    @property
    def words(self) -> str:
        """`3.1 M of 3,836 M weights (0.08 %)`."""
        return f"{_count(self.trained)} of {_count(self.total)} weights ({_percent(self.trained / self.total)})"


def trainable_share(recipe: Recipe, folder: Path) -> TrainableShare | None:
    """The share for the model in a folder; None where it isn't known from the files' headers alone."""
    folder = find_model_folder(folder)
    config = read_config(folder)
    named = next(iter(config.get("architectures") or []), None)
    rendering = TASKS[recipe.task].rendering_for(model_kind(folder))
    if named not in ARCHITECTURES or not ARCHITECTURES[named].writes or rendering is None or rendering in _NEW_HEADS:
        return None
    shapes = _parameters(weight_shapes(folder), config)
    if shapes is None:
        return None
    total = sum(map(math.prod, shapes.values()))
    technique: TechniqueBase = recipe.technique
    if isinstance(technique, Full):
        return TrainableShare(trained=total, total=total)
    if isinstance(technique, Freeze):
        trained = None if technique.head else _last_layers(shapes, technique.layers)
        return None if trained is None else TrainableShare(trained=trained, total=total)
    added = None
    if isinstance(technique, LowRank):
        added = _low_rank(shapes, technique, clipped=bool(config.get(MARK)))
    elif isinstance(technique, PromptTuning):
        width = next((shape[1] for name, shape in shapes.items() if _module(name) in _EMBEDDINGS), None)
        added = None if width is None else technique.virtual_tokens * width
    return None if added is None else TrainableShare(trained=added, total=total + added)


def _parameters(shapes: Shapes, config: Mapping[str, Any]) -> Shapes | None:
    """The files' tensors that are parameters, each once; None where that can't be told."""
    kept = {name: shape for name, shape in shapes.items() if not name.endswith("inv_freq")}
    if "shared.weight" in kept:
        kept = {name: shape for name, shape in kept.items() if name not in _COPIES}
    if not kept or any(".experts." in name for name in kept):  # experts are put together when they are loaded
        return None
    if _HEAD in kept:
        tied = config.get("tie_word_embeddings")
        if tied is None:  # the class decides, and the file may hold the embeddings twice
            return None
        if tied:
            del kept[_HEAD]
    return kept


def _low_rank(shapes: Shapes, technique: LowRank, *, clipped: bool) -> int | None:
    """Weights of A and B, and of DoRA's magnitudes; None for what only the data or the model in memory decide."""
    if technique.init == "eva" or technique.modules_to_save or (clipped and technique.layers):
        return None
    linear = {
        name.removesuffix(".weight"): shape
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2 and _module(name) not in _TABLES and name != _HEAD
    }
    wanted = technique.target_modules
    if not isinstance(wanted, str):
        if not all(any(_is(module, target) for module in linear) for target in wanted):
            return None  # the head, or a name that the finetune step refuses
        linear = {module: shape for module, shape in linear.items() if any(_is(module, one) for one in wanted)}
    if technique.layers:
        numbers = {module: int(found[1]) for module in linear if (found := _NUMBER.search(module))}
        linear = {module: shape for module, shape in linear.items() if numbers.get(module) in technique.layers}
    magnitudes = isinstance(technique, Dora) or (isinstance(technique, Qlora) and technique.use_dora)
    count = 0
    for module, (outputs, inputs) in linear.items():
        patterns = (rank for name, rank in technique.rank_pattern.items() if re.match(rf"(.*\.)?({name})$", module))
        count += next(patterns, technique.rank) * (outputs + inputs) + (outputs if magnitudes else 0)
    return count or None


def _last_layers(shapes: Shapes, count: int) -> int | None:
    """Weights in the last layers of each list of them."""
    layers: dict[str, dict[int, int]] = {}
    for name, shape in shapes.items():
        if found := _NUMBER.search(name):
            stack = layers.setdefault(name[: found.start()], {})
            stack[int(found[1])] = stack.get(int(found[1]), 0) + math.prod(shape)
    trained = sum(weights for stack in layers.values() for _, weights in sorted(stack.items())[-count:])
    return trained or None


def _module(weight: str) -> str:
    """The last part of the name of a weight's module."""
    return weight.split(".")[-2] if "." in weight else ""


def _is(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


def _count(number: int) -> str:
    """`812`, `12.4 K`, `3.1 M`, `3,836 M`."""
    for unit, size in (("M", 1e6), ("K", 1e3)):
        if number >= size:
            value = number / size
            return f"{value:.1f} {unit}" if value < 100 else f"{value:,.0f} {unit}"
    return str(number)


def _percent(share: float) -> str:
    """Two digits that say something: `0.08 %`, `12 %`, `100 %`."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"
