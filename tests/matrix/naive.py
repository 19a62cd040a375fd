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
        elif dataset.objective == "noise":
            total = total + noise_of_one(model, dataset, sequence, seed=42, step=0)
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


def _class(model: Any, document: Document) -> torch.Tensor:
    loss: torch.Tensor = model(**_read(document), labels=_told(document)[:, 0]).loss
    return loss


def _classes(model: Any, document: Document) -> torch.Tensor:
    dtype = next(model.parameters()).dtype
    loss: torch.Tensor = model(**_read(document), labels=_told(document).to(dtype)).loss
    return loss


def _tags(model: Any, document: Document) -> torch.Tensor:
    counts = torch.from_numpy(np.array(document.loss_mask)).bool()
    logits = model(**_read(document)).logits[0, -len(counts) :]  # peft's prompts stand before, and it leaves them there
    return F.cross_entropy(logits[counts], _told(document)[:, 0], reduction="sum")


def _span(model: Any, document: Document) -> torch.Tensor:
    # peft 0.21's wrapper for such models takes the token types and loses them.
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    output, length = inner(**_read(document)), len(document.tokens)
    ends = torch.cat([output.start_logits, output.end_logits])[:, -length:]
    return F.cross_entropy(ends, _told(document)[0])


def _read(document: Document) -> dict[str, torch.Tensor]:
    """A document for a model that reads; of pairs, which token is of the second text."""
    ids = _ids(document.tokens)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if document.second is not None:
        inputs["token_type_ids"] = (torch.arange(ids.shape[1]) >= document.second).long()[None]
    return inputs


def _told(document: Document) -> torch.Tensor:
    assert document.targets is not None
    return torch.from_numpy(np.array(document.targets)).long()


def _preference(model: Any, base: Any, documents: list[Document], beta: float) -> torch.Tensor:
    said = [-_next_token(model, document) for document in documents]
    with torch.no_grad():
        before = [-_next_token(base, document) for document in documents]
    return -F.logsigmoid(beta * ((said[0] - before[0]) - (said[1] - before[1])))


def noise_of_one(model: Any, dataset: TokenDataset, sequence: int, *, seed: int, step: int) -> torch.Tensor:
    """The loss of one picture, by diffusers' parts alone and the formula's own arithmetic."""
    painter = model.get_base_model() if hasattr(model, "get_base_model") else model
    assert dataset.pixels is not None
    dtype = next(painter.unet.parameters()).dtype
    number = int(dataset.sequence_documents[sequence])
    picture = torch.from_numpy(dataset.pixels[number].astype(np.float64))[None].to(dtype) / 255 * 2 - 1
    caption = dataset.document(number).tokens.tolist()
    caption += [painter.filler] * (painter.text_encoder.config.max_position_embeddings - len(caption))
    config, random = painter.schedule.config, np.random.default_rng([1, seed, step, sequence])
    ends = config.beta_start**0.5, config.beta_end**0.5
    betas = torch.linspace(*ends, config.num_train_timesteps, dtype=dtype) ** 2
    timestep = int(random.integers(config.num_train_timesteps))
    kept = torch.cumprod(1 - betas, 0)[timestep].to(dtype)
    with torch.no_grad():
        seen = painter.vae.encode(picture).latent_dist
        shape = tuple(seen.mean.shape[1:])
        posterior, noise = (
            torch.from_numpy(random.standard_normal(shape, dtype=np.float32))[None].to(dtype) for _ in range(2)
        )
        clean = (seen.mean + seen.std * posterior) * painter.vae.config.scaling_factor
        read = painter.text_encoder(torch.tensor([caption])).last_hidden_state
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    told = noise if config.prediction_type == "epsilon" else kept.sqrt() * noise - (1 - kept).sqrt() * clean
    return F.mse_loss(painter.unet(noisy, torch.tensor([timestep]), read).sample, told)


SUMS = {
    "next-token": _next_token,
    "sequence-to-sequence": _sequence_to_sequence,
    "class": _class,
    "classes": _classes,
    "tag": _tags,
    "span": _span,
}
