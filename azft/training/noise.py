"""Learning to paint: noise is laid on a picture's latents, and the UNet learns to tell it from the picture.

Of a picture with latents x, a timestep t and noise e ~ N(0, 1), both drawn, the noisy latents are
sqrt(a_t) x + sqrt(1 - a_t) e, and the loss is the mean square of what the UNet says of them minus e (Ho et al. 2020,
arXiv:2006.11239, eq. 14), or minus v = sqrt(a_t) e - sqrt(1 - a_t) x where the model's schedule says `v_prediction`
(Salimans and Ho 2022, arXiv:2202.00512). Latents are drawn from the VAE's posterior, as in the models' own training.

What is drawn comes from the run's seed, the step and the picture's number: neither micro-batches, nor ranks, nor a
restart change it. Held-out pictures are measured at the same timesteps with the same noise, whoever measures them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from azft.training.batches import Moment, Movable
from azft.training.loss import Score
from azft.training.models import unwrapped

if TYPE_CHECKING:
    from torch import Tensor

    from azft.data.dataset import TokenDataset
    from azft.training.objectives import Totals

MEASURED_AT = (0.125, 0.375, 0.625, 0.875)
"""Shares of the way to pure noise at which a held-out picture is measured: the middles of its quarters."""
_TRAINING, _MEASURING = 1, 2


@dataclass(frozen=True)
class Draw:
    """What seeds the noise of one thing to be told, and its timestep as a share of all; None: drawn, too."""

    seed: tuple[int, ...]
    share: float | None = None


@dataclass(frozen=True)
class PictureBatch(Movable):
    """Pictures with their captions, and what is laid on each."""

    pixels: Tensor
    """(pictures, 3, height, width) uint8."""
    captions: tuple[tuple[int, ...], ...]
    """Token ids of each picture's caption."""
    picture_of: Tensor
    """(labels,) int64: the picture that each thing to be told is about."""
    labels: Tensor
    """(labels,) int64: numbers of the sequences."""
    draws: tuple[Draw, ...]
    """(labels,)."""
    sequences: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens of the captions, without filler."""
        return sum(map(len, self.captions))


def picture_batch(dataset: TokenDataset, sequences: Sequence[int], moment: Moment = ()) -> PictureBatch:
    """The batch of some pictures: one draw for each while training, `MEASURED_AT` for each otherwise."""
    assert dataset.pixels is not None
    numbers = [int(dataset.sequence_documents[sequence]) for sequence in sequences]
    if moment:
        per_picture = [[Draw((_TRAINING, *moment, int(sequence)))] for sequence in sequences]
    else:
        per_picture = [
            [Draw((_MEASURING, place, int(sequence)), share) for place, share in enumerate(MEASURED_AT)]
            for sequence in sequences
        ]
    picture_of = torch.arange(len(numbers)).repeat_interleave(len(per_picture[0]) if per_picture else 1)
    return PictureBatch(
        pixels=torch.from_numpy(np.ascontiguousarray(dataset.pixels[numbers])),
        captions=tuple(tuple(map(int, dataset.document(number).tokens)) for number in numbers),
        picture_of=picture_of,
        labels=torch.tensor(list(sequences), dtype=torch.int64)[picture_of],
        draws=tuple(draw for draws in per_picture for draw in draws),
        sequences=tuple(map(int, sequences)),
    )


class NoiseLoss(nn.Module):
    """A model that paints, whose forward is the summed loss of a batch of pictures."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: PictureBatch) -> Tensor:
        """Summed loss over the batch's draws, shape ()."""
        return self.losses(batch).sum()

    @torch.no_grad()
    def score(self, batch: PictureBatch) -> Score:
        """Summed loss; nothing is right or wrong. `answers` are the losses, (labels,)."""
        losses = self.losses(batch)
        return Score(losses.sum(dtype=torch.float64), torch.zeros((), dtype=torch.int64), losses)

    def losses(self, batch: PictureBatch) -> Tensor:
        """Mean square error of each draw, (labels,), in at least fp32."""
        painter: Any = unwrapped(self.model)
        wide = torch.promote_types(next(painter.unet.parameters()).dtype, torch.float32)
        mean, deviation = painter.latents(batch.pixels.to(wide) / 127.5 - 1)
        captions = painter.read(batch.captions)
        steps, posterior, noise = (
            torch.as_tensor(np.stack(drawn)).to(mean.device)
            for drawn in zip(*(_drawn(draw, mean.shape[1:], painter.timesteps) for draw in batch.draws), strict=True)
        )
        noise = noise.to(wide)
        clean = mean.to(wide)[batch.picture_of] + deviation.to(wide)[batch.picture_of] * posterior.to(wide)
        noisy = painter.schedule.add_noise(clean, noise, steps)
        told = noise
        if painter.schedule.config.prediction_type == "v_prediction":
            told = painter.schedule.get_velocity(clean, noise, steps)
        compute = next(painter.unet.parameters()).dtype
        said = painter(noisy.to(compute), steps, captions[batch.picture_of].to(compute))
        losses: Tensor = (said.to(wide) - told).square().flatten(1).mean(1)
        return losses


def _drawn(draw: Draw, shape: Sequence[int], timesteps: int) -> tuple[Any, Any, Any]:
    """Timestep (), posterior noise and noise of the latents' shape; the same numbers on every machine (numpy's)."""
    random = np.random.default_rng(draw.seed)
    step = int(random.integers(timesteps))
    if draw.share is not None:
        step = int(draw.share * timesteps)
    posterior, noise = (random.standard_normal(tuple(shape), dtype=np.float32) for _ in range(2))
    return np.int64(step), posterior, noise


def noise_figures(totals: Totals) -> dict[str, float]:
    """Mean loss over held-out pictures and `MEASURED_AT`; 1 is that of a model that says nothing of the noise."""
    return {"loss": totals.mean_loss}


def paint_held_out(model: Any, rows: TokenDataset, count: int, *, seed: int) -> list[tuple[list[int], Any]]:
    """The first held-out captions (token ids) with the picture that a model paints of each."""
    assert rows.pixels is not None
    first = range(min(count, len(rows.document_offsets) - 1))
    captions = [rows.document(number).tokens.tolist() for number in first]
    painter = unwrapped(model)
    return list(zip(captions, painter.paint(captions, side=rows.pixels.shape[-1], seed=seed), strict=True))
