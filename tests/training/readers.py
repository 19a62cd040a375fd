"""Tiny models that read, and data sets for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from azft.data.dataset import Document, Source
from azft.data.dataset_writer import write_dataset

VOCABULARY = 96
NAMES = ("O", "B-PER", "I-PER", "B-LOC")
READERS: dict[str, dict[str, Any]] = {
    "bert": {"pad_token_id": 0},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1, "max_position_embeddings": 66},
    "modernbert": {"pad_token_id": 0, "global_attn_every_n_layers": 2, "local_attention": 8},
    "llama": {"pad_token_id": 2, "eos_token_id": 2, "num_key_value_heads": 2},
    "qwen2": {"pad_token_id": 0, "num_key_value_heads": 2},
}
"""The architectures under test, and what their configuration has besides the common part."""
HEADS = {
    "class": ("AutoModelForSequenceClassification", 1),
    "classes": ("AutoModelForSequenceClassification", len(NAMES)),
    "tag": ("AutoModelForTokenClassification", 1),
    "span": ("AutoModelForQuestionAnswering", 2),
}
"""Of each objective the head, and how many numbers are told."""


def tiny_reader(architecture: str, objective: str, *, seed: int = 0, **changes: Any) -> Any:
    """A transformers model with random weights and the objective's head."""
    import transformers

    config = transformers.AutoConfig.for_model(
        architecture,
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "bos_token_id": 3,
            "eos_token_id": 4,
            "cls_token_id": 3,
            "sep_token_id": 4,
            **READERS[architecture],
            **changes,
        },
    )
    if objective != "span":
        config.num_labels = len(NAMES)
    torch.manual_seed(seed)
    model = getattr(transformers, HEADS[objective][0]).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)  # the default 0.02 makes attention nearly uniform
    return model.eval()


def random_reads(objective: str, count: int, *, seed: int = 0, pairs: bool = True) -> list[Document]:
    """Documents of random tokens with random things to be told about them; every other one is a pair of texts."""
    random = np.random.default_rng(seed)
    documents = []
    for number in range(count):
        length = int(random.integers(6, 40))
        mask = np.zeros(length, dtype=np.uint8)
        second = int(random.integers(2, length - 2)) if objective == "span" or (pairs and number % 2) else None
        if objective == "tag":
            mask[1:-1] = random.random(length - 2) < 0.6
            mask[1] = 1
            targets = random.integers(0, len(NAMES), (int(mask.sum()), 1))
        else:
            mask[0] = 1
        if objective == "class":
            targets = random.integers(0, len(NAMES), (1, 1))
        elif objective == "classes":
            targets = random.integers(0, 2, (1, len(NAMES)))
        elif objective == "span":
            assert second is not None
            targets = np.sort(random.integers(second, length, (1, 2)), 1)
        tokens = random.integers(5, VOCABULARY, length)
        documents.append(Document(tokens, mask, targets.astype(np.int32), second))
    return documents


def read_dataset(folder: Path, objective: str, splits: dict[str, list[Document]]) -> Path:
    """A prepared dataset of the given documents. The answer to a question is its tokens' places as text."""
    with write_dataset(
        folder,
        splits=list(splits),
        vocab_size=VOCABULARY,
        max_length=64,
        packing=False,
        tokenizer="tiny",
        objective=objective,
        target_width=HEADS[objective][1],
        labels=() if objective == "span" else NAMES,
    ) as writer:
        for split, documents in splits.items():
            for number, document in enumerate(documents):
                references: tuple[str, ...] = ()
                source = None
                if objective == "span" and document.targets is not None and document.second is not None:
                    first, last = document.targets[0].tolist()
                    places = range(document.second, len(document.tokens))
                    words = [f"w{place:02}" for place in places]
                    offsets = [(4 * i, 4 * i + 3) for i in range(len(words))]
                    references = (" ".join(f"w{place:02}" for place in range(first, last + 1)),)
                    source = Source(number, " ".join(words), offsets)
                writer.splits[split].add(
                    document.tokens, document.loss_mask, document.targets, references, document.second, source
                )
    return folder


def naive_loss(model: Any, objective: str, documents: list[Document], *, types: bool) -> torch.Tensor:
    """The mean loss per label, the naive way: one document at a time, written out with probabilities."""
    model.set_attn_implementation("eager")
    total, labels = torch.zeros((), dtype=torch.float64), 0
    for document in documents:
        assert document.targets is not None
        ids = torch.from_numpy(np.asarray(document.tokens, dtype=np.int64))[None]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if types:
            second = len(ids[0]) if document.second is None else document.second
            inputs["token_type_ids"] = (torch.arange(ids.shape[1]) >= second).long()[None]
        output = model(**inputs)
        targets = torch.from_numpy(document.targets.astype(np.int64))
        if objective == "span":
            starts, ends = output.start_logits[0].softmax(-1), output.end_logits[0].softmax(-1)
            total = total - (starts[targets[0, 0]].log() + ends[targets[0, 1]].log()) / 2
            labels += 1
        elif objective == "classes":
            right = output.logits[0].sigmoid()
            right = torch.where(targets[0] == 1, right, 1 - right)
            total = total - right.log().mean()
            labels += 1
        else:
            logits = output.logits if objective == "class" else output.logits[0, document.loss_mask.nonzero()[0]]
            for row, target in zip(logits.softmax(-1), targets[:, 0], strict=True):
                total = total - row[target].log()
                labels += 1
    return total / labels
