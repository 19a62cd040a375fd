"""A trained UNet's LoRA in the two forms that others load: plain peft's for the UNet alone, and diffusers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from safetensors.torch import load_file, save_file

from azft.files import write_bytes
from azft.training import adapters
from azft.training.painter import TRAINED

_BEFORE = "base_model.model."
_PATTERNS = ("rank_pattern", "alpha_pattern")
DIFFUSERS = "pytorch_lora_weights.safetensors"
"""diffusers' name of a LoRA, which `load_lora_weights` looks for in a folder."""
_SAID = ("r", "lora_alpha", "lora_dropout", "bias", "target_modules", "use_rslora", "use_dora", *_PATTERNS)
"""What diffusers has to be told of it."""


def write_diffusers_lora(folder: Path) -> None:
    """Turn the adapter in `folder`, made for the model as a whole, into one for its UNet, in both forms.

    `PeftModel.from_pretrained(pipeline.unet, folder)` loads the one, `pipeline.load_lora_weights(folder)` the other.
    The files are written without diffusers' own code, which would order names by chance.
    """
    inside = f"{TRAINED}."
    config: dict[str, Any] = orjson.loads((folder / adapters.CONFIG).read_bytes())
    config["target_modules"] = sorted(name.removeprefix(inside) for name in config["target_modules"])
    for key in _PATTERNS:
        config[key] = {name.removeprefix(inside): value for name, value in config[key].items()}
    tensors = load_file(folder / adapters.WEIGHTS)
    own = {name.removeprefix(_BEFORE): tensor for name, tensor in sorted(tensors.items())}  # unet.down_blocks. ...
    plain = {_BEFORE + name.removeprefix(inside): tensor for name, tensor in own.items()}
    save_file(plain, folder / adapters.WEIGHTS, metadata={"format": "pt"})
    write_bytes(folder / adapters.CONFIG, orjson.dumps(config, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS))
    # diffusers finds rank and alpha of a LoRA in the header: without it, alpha would be taken for the rank.
    said = {f"{inside}{key}": value for key, value in config.items() if key in _SAID}
    header = {"format": "pt", "lora_adapter_metadata": orjson.dumps(said, option=orjson.OPT_SORT_KEYS).decode()}
    save_file(own, folder / DIFFUSERS, metadata=header)
