"""Freeze: only the last layers of a model move. What is trained is a whole model, as with full fine-tuning."""

from __future__ import annotations

from typing import Any

import torch

from azft.errors import UsageError
from azft.techniques import Freeze
from azft.training import adapters


def prepare(model: Any, technique: Freeze) -> Any:
    """Let the last layers, new heads and, where wanted, the output head with the final norm move; nothing else.

    A model with fewer layers trains all of them, so that a recipe for a large model runs on its stand-in.
    """
    model.requires_grad_(False)
    for stack in layer_stacks(model):
        for layer in list(stack)[-technique.layers :]:
            layer.requires_grad_(True)
    for name in adapters.new_heads(model):
        model.get_submodule(name).requires_grad_(True)
    if technique.head:
        for module in _after_the_layers(model):
            module.requires_grad_(True)
    return model


def layer_stacks(model: Any) -> list[torch.nn.ModuleList]:
    """The model's lists of layers, first the encoder's where there are two; `UsageError` where none is found.

    A list inside a layer (experts, or a layer's parts) is none.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.ModuleList) and len(module)]
    outermost = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
    if not outermost:
        raise UsageError(
            f"technique freeze: no list of layers was found in {type(model).__name__}.",
            fix="Take technique full or lora.",
        )
    return [model.get_submodule(name) for name in outermost]


def _after_the_layers(model: Any) -> list[torch.nn.Module]:
    """The output head, and the norms that are inside no layer and not beside the embeddings."""
    stacks = layer_stacks(model)
    inside = {id(module) for stack in stacks for module in stack.modules()}
    parents = [m for m in model.modules() if any(child is stack for child in m.children() for stack in stacks)]
    norms = [
        child
        for parent in parents
        for name, child in parent.named_children()
        if id(child) not in inside
        and not any(True for _ in child.children())
        and "norm" in (name + type(child).__name__).lower()
    ]
    head = model.get_output_embeddings()
    return norms if head is None else [*norms, head]
