"""LoRA through peft: which modules it adapts, and its saved form, which plain peft loads.

Target modules are resolved against the real model before peft sees them, because peft passes over a name that hits
nothing as long as another one hits: `q_proj, k_proj, v_proj, o_proj` on a model with a fused `qkv_proj` would adapt
`o_proj` alone.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import save_file

from azft.errors import AzftError, UsageError
from azft.files import atomic_path
from azft.techniques import Lora

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"

_FUSED = {
    "q_proj": ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack"),
    "k_proj": ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack"),
    "v_proj": ("qkv_proj", "query_key_value", "c_attn", "Wqkv", "W_pack"),
    "gate_proj": ("gate_up_proj",),
    "up_proj": ("gate_up_proj",),
}
"""What a missing module is often fused into, to say so."""


def linear_modules(model: Any) -> dict[str, torch.nn.Module]:
    """Every module that LoRA can adapt, by its full name, but for the output head."""
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    kinds = (torch.nn.Linear, Conv1D)
    return {name: m for name, m in model.named_modules() if isinstance(m, kinds) and m is not head}


def resolve_targets(model: Any, wanted: str | Sequence[str]) -> list[str]:
    """The module names to hand to peft, sorted.

    `all-linear` becomes the last part of every linear module's name. A given name hits modules whose full name is it,
    or ends with `.` and it, as in peft; the output head may be named.

    Raises:
        UsageError: A name hits nothing; the message lists what there is.
    """
    modules = linear_modules(model)
    last_parts = Counter(name.rpartition(".")[2] for name in modules)
    if isinstance(wanted, str):
        return sorted(last_parts)
    head = [
        n for n, m in model.named_modules() if m is model.get_output_embeddings() and isinstance(m, torch.nn.Linear)
    ]
    names = [*modules, *head]
    missing = [name for name in wanted if not any(n == name or n.endswith(f".{name}") for n in names)]
    if missing:
        there = ", ".join(f"{name} ({count})" for name, count in sorted(last_parts.items()))
        hints = [
            f"`{name}` is part of `{fused}` here."
            for name in missing
            for fused in _FUSED.get(name, ())
            if fused in last_parts
        ]
        raise UsageError(
            f"technique.target_modules: no linear module of {type(model).__name__} is called "
            f"{', '.join(f'`{name}`' for name in missing)}.",
            fix=" ".join([*dict.fromkeys(hints), f"There are: {there}. Or write all-linear."]),
        )
    return sorted(set(wanted))


def prepare(model: Any, technique: Lora) -> Any:
    """Freeze the model and put adapters (fp32, from the current seed) on its target modules; peft's wrapper."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=technique.rank,
        lora_alpha=technique.alpha,  # peft types it as int and divides by the rank either way
        lora_dropout=technique.dropout,
        target_modules=resolve_targets(model, technique.target_modules),
        task_type="CAUSAL_LM",
    )
    with _without_notice():
        return get_peft_model(model, config)


def attach(model: Any, folder: Path) -> Any:
    """Put a saved adapter onto a freshly loaded base model; peft's wrapper."""
    from peft import PeftModel

    with _without_notice():
        return PeftModel.from_pretrained(model, folder, local_files_only=True).eval()


def save(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json` into an existing folder.

    Written here and not by peft's own method, which asks a hub about the base model, adds a card, and writes module
    names in another order each time.
    """
    del dtype
    config = model.peft_config["default"].to_dict()
    for key, value in config.items():
        if isinstance(value, set | frozenset):
            config[key] = sorted(value)
    config |= {"inference_mode": True, "base_model_name_or_path": Path(model.get_base_model().name_or_path).name}
    with atomic_path(folder / WEIGHTS) as path:
        save_file(_adapter(model, "default"), path, metadata={"format": "pt"})
    with atomic_path(folder / CONFIG) as path:
        path.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS, default=str))


def verify(model: Any, folder: Path) -> None:
    """Load a saved adapter back as peft does, and compare every weight with the model's; `AzftError` if one differs."""
    model.load_adapter(str(folder), adapter_name="saved", local_files_only=True)
    try:
        trained, saved = _adapter(model, "default"), _adapter(model, "saved")
        wrong = sorted(trained.keys() ^ saved.keys())
        wrong += [name for name in sorted(trained.keys() & saved.keys()) if not torch.equal(trained[name], saved[name])]
        if wrong or not trained:
            raise AzftError(
                f"The adapter in {folder} is not the one that was trained: {wrong[0] if wrong else 'empty'}."
            )
    finally:
        model.delete_adapter("saved")


@contextmanager
def _without_notice() -> Iterator[None]:
    """Peft asks for an attribute that transformers is about to rename; its notice in a step's log helps nobody."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def _adapter(model: Any, name: str) -> dict[str, torch.Tensor]:
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}
