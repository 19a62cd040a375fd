"""Every technique as a recipe says it, and the variants that have code of their own, for the tests of all of them."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import TypeAdapter

from azft.techniques import Technique, TechniqueBase

ROWS: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "freeze": {"name": "freeze", "layers": 1},
    "freeze-head": {"name": "freeze", "layers": 1, "head": True},
    "lora": {"name": "lora", "rank": 4},
    "lora-rslora": {"name": "lora", "rank": 4, "use_rslora": True, "rank_pattern": {"v_proj": 2}},
    "lora-layer": {"name": "lora", "rank": 4, "layers": [1], "init": "orthogonal"},
    "lora-head": {"name": "lora", "rank": 4, "modules_to_save": ["lm_head"]},
    "lora-pissa": {
        "name": "lora", "rank": 4, "init": "pissa", "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 2},
    },
    "lora-pissa-quick": {"name": "lora", "rank": 4, "init": "pissa_niter_16", "use_rslora": True},
    "lora-eva": {"name": "lora", "rank": 4, "init": "eva"},
    "dora": {"name": "dora", "rank": 4},
    "dora-pissa": {"name": "dora", "rank": 4, "init": "pissa"},
    "qlora": {"name": "qlora", "rank": 4},
    "qlora-dora": {"name": "qlora", "rank": 4, "use_dora": True},
    "ia3": {"name": "ia3"},
    "prompt-tuning": {"name": "prompt-tuning", "virtual_tokens": 5},
    "prefix-tuning": {"name": "prefix-tuning", "virtual_tokens": 5},
    "prefix-projection": {"name": "prefix-tuning", "virtual_tokens": 5, "projection": True, "hidden_size": 8},
    "p-tuning": {"name": "p-tuning", "virtual_tokens": 5},
    "p-tuning-lstm": {"name": "p-tuning", "virtual_tokens": 5, "encoder": "lstm", "hidden_size": 8},
}  # fmt: skip


def row(which: str | dict[str, Any]) -> TechniqueBase:
    """The technique of a row, or of a mapping as a recipe has it."""
    technique: TechniqueBase = TypeAdapter(Technique).validate_python(ROWS[which] if isinstance(which, str) else which)
    return technique


def move(model: Any, *, seed: int = 5) -> Any:
    """Move every trained weight a little, as training would; fresh adapters have no effect, and parts no gradient."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model
