"""The summed cross-entropy of the labelled tokens of a batch, computed without logits for any other token.

The backbone's hidden states are narrowed to the rows that predict a labelled token before the head is applied. A plain
linear head goes through a chunked function that makes the gradient during the forward pass, so that no more than one
chunk of logits exists at a time; any other head (LoRA on it, scaled logits) takes the model's own forward. What differs
for encoder-decoders, where the hidden states come from, is in `azft.training.sequence_to_sequence`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom

from azft.training.models import unwrapped

if TYPE_CHECKING:
    from torch import Tensor

    from azft.training.batches import Batch

B = TypeVar("B", bound="Labelled")

_CHUNK_ELEMENTS = 1 << 24
"""Logits in a chunk: 64 MB in fp32. 128k words give 130 rows, 8k words 2,048; near the fastest in both cases on CPU."""


def _chunk_rows(vocabulary: int) -> int:
    return max(64, _CHUNK_ELEMENTS // vocabulary)


class Labelled(Protocol):
    """A batch, as far as a loss over the vocabulary has to know it."""

    @property
    def labels(self) -> Tensor:
        """(labels,) int64."""


@dataclass(frozen=True)
class Score:
    """What a batch gives in evaluation: summed loss and number of right answers, tensors of shape ()."""

    loss: Tensor
    correct: Tensor
    answers: Tensor | None = None
    """(labels, ...) what the model tells, in the order of the batch's labels; None where nobody asks for each."""


class PlainHead(NamedTuple):
    """What makes logits of hidden states: `softcap * tanh((hidden @ weight.T + bias) / softcap)`."""

    weight: Tensor
    """(vocabulary, hidden)."""
    bias: Tensor | None
    """(vocabulary,)."""
    softcap: float | None
    """None where nothing caps."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states (labels, hidden) in at least fp32, (labels, vocabulary)."""
        return _capped(at_least_fp32(F.linear(hidden, self.weight, self.bias)), self.softcap)


class HeadLoss(nn.Module, Generic[B]):
    """A model with a head over its vocabulary, whose forward is the summed loss of a batch's labels.

    `model` is the transformers model, or peft's wrapper around it. `plain_head` says that logits are what `PlainHead`
    says of the hidden states; `azft.training.probe` finds out.
    """

    def __init__(self, model: nn.Module, *, plain_head: bool) -> None:
        super().__init__()
        self.model = model
        self.plain_head = plain_head

    def forward(self, batch: B) -> Tensor:
        """Summed loss over the batch's labels, shape (); zero, yet part of the graph, when it has none."""
        if not self.plain_head:
            logits = self.own_logits(batch)
            return F.cross_entropy(logits, batch.labels, reduction="sum") + 0 * logits.sum()
        hidden = self.hidden_states(batch)
        head = self.head()
        if len(batch.labels) == 0:
            return 0 * (hidden.sum() + head.weight.sum())
        return _chunked_cross_entropy(hidden, head.weight, head.bias, batch.labels, head.softcap)

    @torch.no_grad()
    def score(self, batch: B) -> Score:
        """Summed loss and number of labels that the model's first choice hits."""
        loss = torch.zeros((), dtype=torch.float64, device=batch.labels.device)
        correct = torch.zeros((), dtype=torch.int64, device=batch.labels.device)
        if len(batch.labels) == 0:
            return Score(loss, correct)
        if self.plain_head:
            hidden = self.hidden_states(batch)
            head, rows = self.head(), self.chunk_rows
            parts = zip(torch.split(hidden, rows), torch.split(batch.labels, rows), strict=True)
            chunks = ((head.logits(part), labels) for part, labels in parts)
        else:
            chunks = ((logits, batch.labels) for logits in [self.own_logits(batch)])
        for logits, labels in chunks:
            loss += F.cross_entropy(logits, labels, reduction="sum").double()
            correct += (logits.argmax(-1) == labels).sum()
        return Score(loss, correct)

    def hidden_states(self, batch: B) -> Tensor:
        """What the head makes the logits of each label from: (labels, hidden)."""
        raise NotImplementedError

    def own_logits(self, batch: B) -> Tensor:
        """The model's own logits of the same rows, (labels, vocabulary), in at least fp32."""
        raise NotImplementedError

    @property
    def chunk_rows(self) -> int:
        """Rows of logits that are made at a time."""
        return _chunk_rows(self.head().weight.shape[0])

    def token_losses(self, hidden: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each label, (labels,), from hidden states (labels, hidden); the head is plain."""
        head = self.head()
        logits = head._replace(weight=head.weight.to(hidden.dtype)).logits(hidden)
        return F.cross_entropy(logits, labels, reduction="none")

    def head(self) -> PlainHead:
        """The model's head, which is plain."""
        model = unwrapped(self.model)
        layer = model.get_output_embeddings()
        bias = layer.bias
        shift = getattr(model, "final_logits_bias", None)  # BART and its kin add it to what the layer gives
        if shift is not None:
            bias = shift[0] if bias is None else bias + shift[0]
        softcap = getattr(model.config.get_text_config(decoder=True), "final_logit_softcapping", None)
        return PlainHead(layer.weight, bias, softcap)


class TokenLoss(HeadLoss["Batch"]):
    """A causal language model whose forward is the summed loss of a batch; what distribution strategies wrap."""

    def hidden_states(self, batch: Batch) -> Tensor:
        """The last hidden states of the rows that predict a label: (labels, hidden)."""
        hidden: Tensor = unwrapped(self.model).base_model(**batch.model_inputs).last_hidden_state
        return hidden[0, batch.rows]

    def own_logits(self, batch: Batch) -> Tensor:
        """The model's own logits of the same rows, (labels, vocabulary), in at least fp32."""
        output = unwrapped(self.model)(**batch.model_inputs, logits_to_keep=batch.rows)
        return at_least_fp32(output.logits[0])


def at_least_fp32(logits: Tensor) -> Tensor:
    """Losses are computed in fp32 at least, whatever the model's type."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _capped(logits: Tensor, softcap: float | None) -> Tensor:
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def _chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, softcap: float | None
) -> Tensor:
    loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, bias, labels, softcap)  # type: ignore[no-untyped-call]
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of cross-entropies of `capped(hidden @ weight.T + bias)`, chunk by chunk, its gradient made on the way.

    Matrix products run in the autocast type, else in the hidden states' own; softmax and sums in at least fp32.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, softcap: float | None
    ) -> Tensor:
        device = hidden.device.type
        autocast = torch.is_autocast_enabled(device)
        compute = torch.get_autocast_dtype(device) if autocast else hidden.dtype
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        with torch.autocast(device, enabled=False):
            words = weight.to(compute)
            loss = torch.zeros((), dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
            grad_hidden = torch.empty_like(hidden) if wants_hidden else None
            grad_weight = torch.zeros_like(weight) if wants_weight else None
            grad_bias = torch.zeros_like(bias) if bias is not None and wants_bias else None
            rows = _chunk_rows(weight.shape[0])
            for start in range(0, len(labels), rows):
                part, targets = hidden[start : start + rows].to(compute), labels[start : start + rows, None]
                logits = at_least_fp32(part @ words.t() if bias is None else F.linear(part, words, bias.to(compute)))
                logits = _capped(logits, softcap)
                # d loss / d logits = softmax - one_hot; through the cap, times 1 - (logits / cap)^2. In place, with one
                # exponential for both loss and gradient: logits are the largest thing there is.
                slope = None if softcap is None else 1 - (logits / softcap) ** 2
                logits -= logits.amax(-1, keepdim=True)
                chosen = logits.gather(1, targets)
                error = logits.exp_()
                total = error.sum(-1, keepdim=True)
                loss += (total.log() - chosen).sum()
                error /= total
                error.scatter_add_(1, targets, error.new_full((), -1.0).expand_as(targets))
                if slope is not None:
                    error.mul_(slope)
                if grad_bias is not None:
                    grad_bias += error.sum(0)
                error = error.to(compute)
                if grad_hidden is not None:
                    grad_hidden[start : start + rows] = error @ words
                if grad_weight is not None:
                    if grad_weight.dtype == compute:
                        grad_weight.addmm_(error.t(), part)
                    else:
                        grad_weight += error.t() @ part
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        # In place: each is used once, and the weight's can be as large as the model's largest matrix.
        gradients = [None if g is None else g.mul_(upstream[0].to(g.dtype)) for g in ctx.saved_tensors]
        return *gradients, None, None
