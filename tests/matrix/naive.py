"""What every cell's gradient is held against: one document at a time, through the model's own forward and loss.

transformers computes each head's loss when it is given labels; peft puts its prompts before one document. Neither
azft's batches nor its losses take part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from azft.data.dataset import Document, TokenDataset

IGNORED = -100


def mean_loss(model: Any, base: Any, dataset: TokenDataset, beta: float) -> torch.Tensor:
    """Mean loss per thing to be told, over the whole dataset, shape ()."""
    total: Any = 0.0
    for sequence in range(len(dataset)):
        documents = dataset.sequence(sequence)
        if dataset.objective == "preference":
            total = total + _preference(model, base, documents, beta)
        else:
            for document in documents:
                total = total + SUMS[dataset.objective](model, document)
    loss: torch.Tensor = total / int(dataset.label_counts.sum())
    return loss


def _ids(tokens: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(tokens).astype(np.int64))[None]


def _next_token(model: Any, document: Document) -> torch.Tensor:
    ids, counts = _ids(document.tokens), torch.from_numpy(np.array(document.loss_mask)).bool()[None]
    labels = torch.where(counts, ids, IGNORED)
    labels[:, 0] = IGNORED  # it follows nothing; peft would predict it from a virtual token
    loss: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, use_cache=False).loss
    return loss * int(counts[0, 1:].sum())


def _sequence_to_sequence(model: Any, document: Document) -> torch.Tensor:
    border = int(np.argmax(document.loss_mask))
    source, target = _ids(document.tokens[:border]), _ids(document.tokens[border:])
    out = model(input_ids=source, attention_mask=torch.ones_like(source), labels=target, use_cache=False)
    loss: torch.Tensor = out.loss
    return loss * target.shape[1]


def _classes(model: Any, document: Document) -> torch.Tensor:
    ids = _ids(document.tokens)
    assert document.targets is not None
    told = torch.from_numpy(np.array(document.targets)).long()
    loss: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=told[:, 0]).loss
    return loss


def _token_classes(model: Any, document: Document) -> torch.Tensor:
    ids, counts = _ids(document.tokens), torch.from_numpy(np.array(document.loss_mask)).bool()[None]
    assert document.targets is not None
    labels = torch.full_like(ids, IGNORED)
    labels[counts] = torch.from_numpy(np.array(document.targets)).long()[:, 0]
    loss: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
    return loss * int(counts.sum())


def _span(model: Any, document: Document) -> torch.Tensor:
    ids = _ids(document.tokens)
    assert document.targets is not None
    start, end = torch.from_numpy(np.array(document.targets)).long()[0]
    mask = torch.ones_like(ids)
    out = model(input_ids=ids, attention_mask=mask, start_positions=start[None], end_positions=end[None])
    loss: torch.Tensor = out.loss
    return loss


def _preference(model: Any, base: Any, documents: list[Document], beta: float) -> torch.Tensor:
    said = [-_next_token(model, document) for document in documents]
    with torch.no_grad():
        before = [-_next_token(base, document) for document in documents]
    return -F.logsigmoid(beta * ((said[0] - before[0]) - (said[1] - before[1])))


SUMS = {
    "next-token": _next_token,
    "sequence-to-sequence": _sequence_to_sequence,
    "class": _classes,
    "token-class": _token_classes,
    "span": _span,
}
