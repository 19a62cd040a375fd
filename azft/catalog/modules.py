"""Whether the modules that a recipe's technique names are in the model: from the headers of its weights, without torch.

The finetune step looks at the real modules and refuses what hits nothing. Here is seen before anything is started, and
warned about, what its files already tell; a warning, because some families' modules are called otherwise in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson

from azft.data.model_folder import find_config
from azft.data.weight_headers import stored_weights
from azft.findings import Finding, Severity
from azft.recipe_errors import closest
from azft.recipe_file import RecipeFile

_KEYS = ("target_modules", "feedforward_modules", "modules_to_save")
_OUTPUTS = {"lm_head", "embed_out"}
_WITHOUT_WEIGHTS_OF_THEIR_OWN = _OUTPUTS | {"score", "classifier", "qa_outputs"}
"""Heads that share the embeddings' weights, or that are made anew."""
_EMBEDDINGS = {"embed_tokens", "embed_in", "shared", "wte", "word_embeddings"}


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights in a folder's safetensors files, by name; empty where a header can't be read."""
    return {name: weight.shape for name, weight in stored_weights(folder).items()}


def module_findings(recipe_file: RecipeFile, folder: Path) -> Iterator[Finding]:
    """A warning for each module that the technique names and can't have: the model's files lack it, or it is shared."""
    technique = recipe_file.recipe.technique
    wanted = [(key, name) for key in _KEYS for name in _names(getattr(technique, key, None))]
    weights = weight_shapes(folder) if wanted else {}
    if not weights:
        return
    tied = _ties_embeddings(folder)
    last_parts = Counter(name.split(".")[-2] for name in weights if name.count("."))
    for key, name in wanted:
        if key == "modules_to_save" and tied and name.rpartition(".")[2] in _OUTPUTS | _EMBEDDINGS:
            yield Finding(
                "technique-shared-module",
                Severity.WARNING,
                f"technique.{key}: `{name}` shares its weights: the model's embeddings are its output head too, and a "
                "copy of one would part them; training would be refused.",
                "Leave it out, or take technique full, or freeze with head: true.",
                str(recipe_file.path),
                recipe_file.line_of("technique", key),
            )
            continue
        there = any(f".{name}." in f".{weight}" for weight in weights)
        if not there and name not in _WITHOUT_WEIGHTS_OF_THEIR_OWN:
            listed = ", ".join(f"{part} ({count})" for part, count in sorted(last_parts.items()))
            yield Finding(
                "technique-no-such-module",
                Severity.WARNING,
                f"technique.{key}: no weight of the model belongs to a module `{name}`; training would be refused.",
                closest(name.rpartition(".")[2], last_parts) or f"There are: {listed}.",
                str(recipe_file.path),
                recipe_file.line_of("technique", key),
            )


def _ties_embeddings(folder: Path) -> bool:
    """Whether config.json says that the output head is the embeddings; one that says nothing leaves it to the class."""
    try:
        return orjson.loads(find_config(folder).read_bytes()).get("tie_word_embeddings") is True
    except (OSError, orjson.JSONDecodeError, AttributeError):
        return False


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
