"""What a model folder's weights are like on the disk."""

from __future__ import annotations

from pathlib import Path

import torch

from azft.data.model_folder import weight_files


def stored_dtype(folder: Path) -> torch.dtype:
    """The type in which the weights of a model, or of a part of one, are stored: that of its first floating tensor."""
    from safetensors import safe_open

    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                dtype: torch.dtype = tensors.get_tensor(name).dtype
                if dtype.is_floating_point:
                    return dtype
    return torch.float32
