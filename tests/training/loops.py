"""The training loop of one process on this CPU in fp32, for tests that ask it for a gradient or a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from azft.data.dataset import TokenDataset
from azft.training.checkpoints import CheckpointFolder
from azft.training.devices import arithmetic
from azft.training.distribution import SingleProcess
from azft.training.loop import Loop
from azft.training.metrics import Metrics
from azft.training.objectives import OBJECTIVES
from azft.training.schedule import Timetable
from tests.training.tiny import parameters


def one_process_loop(module: Any, objective: str, train: TokenDataset, folder: Path, **training: Any) -> Loop:
    """A loop over `train` that writes below `folder`; `training` is of the recipe's section of that name."""
    settings = parameters(**training).training
    return Loop(
        module,
        objective=OBJECTIVES[objective],
        training=settings,
        timetable=Timetable.of(settings, sequences=len(train)),
        arithmetic=arithmetic("fp32", torch.device("cpu")),
        ranks=SingleProcess(),
        train=train,
        validation=None,
        checkpoints=CheckpointFolder(folder / "checkpoints", identity={}, keep=1),
        metrics=Metrics(folder / "metrics"),
    )
