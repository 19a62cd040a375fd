"""(IA)³ through peft: vectors that scale keys, values and the inner activations of feed-forward blocks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from azft.errors import UsageError
from azft.techniques import Ia3
from azft.training import adapters
from azft.training.low_rank import linear_modules, resolve_targets

_KEYS_AND_VALUES = ("k_proj", "v_proj", "key", "value", "k_lin", "v_lin", "k", "v", "key_proj", "value_proj")
_FUSED = ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack")
"""One module makes queries, keys and values: all three are scaled."""
_FEEDFORWARD = ("down_proj", "fc2", "mlp.c_proj", "dense_4h_to_h", "lin2", "fc_out", "w2", "wo")
"""The last linear module of a feed-forward block, in the families that transformers has; BERT's is apart."""
_BERT_FEEDFORWARD = re.compile(r"(?<!attention)\.output\.dense$")


def prepare(model: Any, technique: Ia3) -> Any:
    """Freeze the model and put scaling vectors (fp32, all ones) on its modules; peft's wrapper.

    Raises:
        UsageError: A name hits no linear module, or none was given and the model's are not known.
    """
    from peft import IA3Config
    from transformers.pytorch_utils import Conv1D

    modules = linear_modules(model)
    targets = technique.target_modules and resolve_targets(model, technique.target_modules)
    feedforward = technique.feedforward_modules
    if feedforward:
        feedforward = resolve_targets(model, feedforward, "feedforward_modules")
    elif feedforward is None:
        feedforward = _feedforward(modules)
        if targets is not None:
            feedforward = [name for name in feedforward if name in targets]
    if targets is None:
        targets = [*_keys_and_values(modules), *feedforward]
        if not targets:
            there = ", ".join(resolve_targets(model, "all-linear"))
            raise UsageError(
                f"technique ia3: which modules of {type(model).__name__} make keys, values and inner activations is "
                "not known.",
                fix=f"Name them in technique.target_modules and technique.feedforward_modules. There are: {there}.",
            )
    config = IA3Config(
        target_modules=sorted(targets),
        feedforward_modules=sorted(feedforward),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in modules.values()),
        modules_to_save=adapters.trained_whole(model, technique.modules_to_save),
        task_type=adapters.task_type(model),
    )
    return adapters.wrap(model, config)


def _keys_and_values(modules: Iterable[str]) -> list[str]:
    names = {name.rpartition(".")[2] for name in modules}
    return [name for name in _KEYS_AND_VALUES if name in names] or [name for name in _FUSED if name in names]


def _feedforward(modules: Iterable[str]) -> list[str]:
    found = [end for end in _FEEDFORWARD if any(name.endswith(f".{end}") for name in modules)]
    return found or [name for name in modules if _BERT_FEEDFORWARD.search(name)]
