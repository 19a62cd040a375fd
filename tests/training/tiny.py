"""Tiny real models and datasets for the training tests, and the naive reference that everything is compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from azft.data.dataset import TokenDataset, open_dataset
from azft.data.dataset_writer import write_dataset
from azft.parameters import FinetuneParameters
from azft.recipe import Recipe

VOCABULARY = 96
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = 8
"""Shorter than most test documents, so that it matters."""
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "phi3": {"original_max_position_embeddings": 256, "sliding_window": WINDOW, "tie_word_embeddings": True},
    "qwen2": {},
    "mistral": {"sliding_window": WINDOW},
    "gemma2": {"head_dim": 8, "sliding_window": WINDOW, "query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0},
}
"""The architectures under test, and what their configuration has besides the common part."""


def tiny_model(architecture: str, *, seed: int = 0, **changes: Any) -> Any:
    """A transformers model with random weights, large enough to make mistakes visible."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(architecture, **{**_COMMON, **ARCHITECTURES[architecture], **changes})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)  # the default 0.02 makes attention nearly uniform
    return model.eval()


def save_model(folder: Path, architecture: str = "llama", **changes: Any) -> Path:
    """A model folder, with a tokenizer's file beside the weights."""
    tiny_model(architecture, **changes).save_pretrained(folder)
    return folder


Documents = list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]


def random_documents(count: int, *, seed: int = 0, low: int = 3, high: int = 40) -> Documents:
    """Documents of random tokens, in which a random half is in the loss, the first token included."""
    random = np.random.default_rng(seed)
    documents = []
    for _ in range(count):
        length = int(random.integers(low, high))
        mask = random.random(length) < 0.5
        mask[0] = mask[-1] = True
        documents.append((random.integers(3, VOCABULARY, length), mask))
    return documents


def write_tiny_dataset(
    folder: Path,
    *,
    train: Any,
    validation: Any = None,
    packing: bool = True,
    max_length: int = 64,
    vocab_size: int = VOCABULARY,
) -> Path:
    """A prepared dataset of the given documents."""
    splits = {"train": train} | ({"validation": validation} if validation else {})
    with write_dataset(
        folder, splits=list(splits), vocab_size=vocab_size, max_length=max_length, packing=packing, tokenizer="tiny"
    ) as writer:
        for split, documents in splits.items():
            for tokens, mask, *_ in documents:
                writer.splits[split].add(tokens, mask)
    return folder


def tiny_dataset(folder: Path, *, count: int = 12, packing: bool = True, validation: int = 4, seed: int = 0) -> Path:
    """A prepared dataset of random documents."""
    return write_tiny_dataset(
        folder,
        train=random_documents(count, seed=seed),
        validation=random_documents(validation, seed=seed + 1),
        packing=packing,
    )


def open_train(folder: Path) -> TokenDataset:
    return open_dataset(folder, "train")


def parameters(
    *, technique: dict[str, Any] | None = None, strategy: str | dict[str, Any] = "none", **training: Any
) -> FinetuneParameters:
    """Parameters of a finetune step, as they come from a recipe. `strategy` may be the whole section."""
    recipe = {
        "name": "tiny",
        "task": "chat-completion",
        "model": "tiny",
        "data": {"train": "train.jsonl"},
        "technique": technique or {"name": "full"},
        "distribution": {"strategy": strategy} if isinstance(strategy, str) else strategy,
        "training": {"precision": "fp32", "learning_rate": 1e-2, "global_batch_size": 4, **training},
    }
    return FinetuneParameters.of(Recipe.model_validate(recipe))


def reference_loss(model: Any, documents: Documents) -> torch.Tensor:
    """Mean loss per labelled target, the naive way: one document at a time, eager attention, all logits."""
    model.set_attn_implementation("eager")
    total, labels = torch.zeros((), dtype=torch.float64), 0
    for tokens, mask, *_ in documents:
        ids = torch.from_numpy(np.asarray(tokens, dtype=np.int64))[None]
        logits = model(input_ids=ids, use_cache=False).logits[0].double()
        for position in range(1, len(tokens)):
            if mask[position]:
                total = (
                    total + F.cross_entropy(logits[position - 1 : position], ids[0, position : position + 1])[None][0]
                )
                labels += 1
    return total / labels


class Float64(TorchFunctionMode):
    """Makes transformers' models double for real: they keep norms, rotations and softmax in fp32 otherwise."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.float:
            function = torch.Tensor.double
        if function is torch.Tensor.view:  # of a type: how bytes are read, and no cast
            return function(*args, **(kwargs or {}))
        swap = {torch.float32: torch.float64, torch.float: torch.float64}
        args = tuple(swap.get(a, a) if isinstance(a, torch.dtype) else a for a in args)
        kwargs = {k: swap.get(v, v) if isinstance(v, torch.dtype) else v for k, v in (kwargs or {}).items()}
        return function(*args, **kwargs)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def worst_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Largest difference between two sets of gradients, relative to the norm of each reference tensor.

    A norm is taken for at least a ten-thousandth of the largest: the gradient of BERT's key biases is nothing, in exact
    arithmetic, and what rounding makes of it is not to be compared.
    """
    assert one.keys() == other.keys()
    least = 1e-4 * max(float(gradient.norm()) for gradient in one.values())
    return max(float((one[k] - other[k]).norm() / one[k].norm().clamp_min(least)) for k in one)
