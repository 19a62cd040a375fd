"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290, eq. 7).

For a prompt x with a preferred answer w and another one l, the loss is

    -log sigmoid(beta * ((log p(w|x) - log r(w|x)) - (log p(l|x) - log r(l|x))))

where p is the model in training and r the model it began as. What r says never changes, so it is asked once, before
anything moves: no second model stays in memory, and no step runs two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own idiom
from torch.utils.checkpoint import checkpoint

from azft.errors import UsageError
from azft.training.batches import Batch, Moment, Movable, assemble
from azft.training.loss import Score, TokenLoss
from azft.training.probe import token_loss

if TYPE_CHECKING:
    from torch import Tensor

    from azft.data.dataset import TokenDataset
    from azft.training.devices import Arithmetic
    from azft.training.objectives import Totals

Reference = dict[str, "Tensor"]
"""Of each split, log r of every document's answer, (documents,) float64."""


@dataclass(frozen=True)
class PairBatch(Movable):
    """Pairs of documents, preferred and other in turn, as one row of tokens."""

    inner: Batch
    document_of: Tensor
    """(label tokens,) int64: which of the batch's documents each belongs to."""
    labels: Tensor
    """(pairs,) int64: numbers of the pairs, which are the dataset's sequences."""
    split: str

    @property
    def tokens(self) -> int:
        """Tokens in the batch."""
        return self.inner.tokens

    @property
    def model_inputs(self) -> dict[str, Any]:
        """Arguments of a transformers model."""
        return self.inner.model_inputs


def pair_batch(dataset: TokenDataset, sequences: Sequence[int], moment: Moment = ()) -> PairBatch:
    """The batch made of some pairs of a dataset; nothing in it is drawn, so that the moment makes no difference."""
    del moment
    inner = assemble([document for s in sequences for document in dataset.sequence(s)], sequences)
    ends = torch.tensor(inner.document_lengths).cumsum(0)
    document_of = torch.searchsorted(ends, inner.rows, right=True)
    return PairBatch(inner, document_of, torch.tensor(list(sequences), dtype=torch.int64), dataset.split)


class PreferenceLoss(nn.Module):
    """A causal language model whose forward is the summed loss of a batch of pairs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.answers = _token_loss(model)
        self.reference: Reference = {}
        self.beta = 0.0

    @property
    def model(self) -> nn.Module:
        """The transformers model, or peft's wrapper around it."""
        return self.answers.model

    def against(self, reference: Reference, beta: float) -> None:
        """Measure from now on against what the reference model says; larger `beta` holds the model closer to it."""
        self.reference, self.beta = reference, beta

    def forward(self, batch: PairBatch) -> Tensor:
        """Summed loss over the batch's pairs, shape ()."""
        margins = self._margins(self.log_probabilities(batch), batch)
        return -F.logsigmoid(margins).sum()

    @torch.no_grad()
    def score(self, batch: PairBatch) -> Score:
        """Summed loss, and pairs whose preferred answer has the larger reward; `answers` are the margins, (pairs,)."""
        margins = self._margins(self.log_probabilities(batch), batch)
        loss = -F.logsigmoid(margins).sum(dtype=torch.float64)
        return Score(loss, (margins > 0).sum(), margins)

    def log_probabilities(self, batch: PairBatch) -> Tensor:
        """Log-probability of each document's answer under the model, (documents,), in at least fp32."""
        inner = batch.inner
        if self.answers.plain_head:
            hidden = self.answers.hidden_states(inner)
            rows = self.answers.chunk_rows
            parts = zip(torch.split(hidden, rows), torch.split(inner.labels, rows), strict=True)
            losses = [checkpoint(self.answers.token_losses, *part, use_reentrant=False) for part in parts]
            loss: Tensor = torch.cat(losses)
        else:
            loss = F.cross_entropy(self.answers.own_logits(inner), inner.labels, reduction="none")
        documents = torch.zeros(len(inner.document_lengths), dtype=loss.dtype, device=loss.device)
        return documents.index_add(0, batch.document_of, -loss)

    def _margins(self, said: Tensor, batch: PairBatch) -> Tensor:
        reference = self.reference[batch.split].to(said.device)[
            torch.stack([batch.labels * 2, batch.labels * 2 + 1], 1)
        ]
        moved = said.view(-1, 2) - reference.to(said.dtype)
        return self.beta * (moved[:, 0] - moved[:, 1])


def _token_loss(model: Any) -> TokenLoss:
    try:
        return token_loss(model, one_document=False)  # a pair is two documents
    except UsageError as error:
        raise UsageError(error.message, fix="Preference tuning needs a model that can: choose another.") from error


def preference_figures(totals: Totals) -> dict[str, float]:
    """Loss (mean per pair), share of pairs whose preferred answer has the larger reward, and by how much on average.

    A reward is by how much an answer became likelier than it was to the base model, times beta; of equal ones half
    count, so that the base model itself is right half the time.
    """
    margins = totals.said.double()
    won = (margins > 0).double() + 0.5 * (margins == 0).double()
    return {"loss": totals.mean_loss, "reward_accuracy": float(won.mean()), "reward_margin": float(margins.mean())}


@torch.no_grad()
def ask_reference(
    model: Any, datasets: Sequence[TokenDataset], numbers: Arithmetic, *, rank: int = 0, ranks: int = 1
) -> Reference:
    """What a model says before it is trained; of several ranks each reads its share of the pairs, 0 for the others."""
    module = PreferenceLoss(model.to(numbers.device))
    reference: Reference = {}
    for dataset in datasets:
        said = torch.zeros(2 * len(dataset), dtype=torch.float64)
        for pair in range(rank, len(dataset), ranks):
            with numbers.autocast():
                batch = pair_batch(dataset, [pair]).to(numbers.device)
                said[2 * pair : 2 * pair + 2] = module.log_probabilities(batch).double().cpu()
        reference[dataset.split] = said
    return reference
