"""Several ranks on this machine: forked children that find each other as torchrun's do. Forking saves the imports."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import peft  # noqa: F401 - here once, and not in every child
import pytest
import torch
from safetensors.torch import load_file

from azft.parameters import FinetuneParameters
from azft.training.finetune import finetune
from azft.training.loop import Loop

HANG_SECONDS = 120
"""A rank that waits longer than this for the other ends with a traceback instead of a test run that hangs."""
Arrange = Callable[[int, pytest.MonkeyPatch], None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(work: Callable[[int], None], *, ranks: int) -> list[int]:
    """Fork the ranks as torchrun would start them, let each do its work, and return their exit codes."""
    port = free_port()
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=sys.__stderr__)
                os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks))
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
                work(rank)
                status = 0
            except SystemExit as stopped:
                status = int(stopped.code or 0)
            except BaseException as error:
                print(f"rank {rank}: {type(error).__name__}: {error}", flush=True)
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def train(
    folder: Path,
    inputs: dict[str, Path],
    what: FinetuneParameters,
    *,
    ranks: int = 2,
    arrange: Arrange = lambda rank, patch: None,
) -> list[int]:
    """A finetune step on several ranks; their exit codes. `arrange` prepares a rank before it starts."""

    def work(rank: int) -> None:
        arrange(rank, pytest.MonkeyPatch())
        finetune(what, **inputs, **{name: folder / name for name in ("trained", "checkpoints", "metrics")})

    return start(work, ranks=ranks)


def kill_all_before_step(number: int) -> Arrange:
    def arrange(_rank: int, patch: pytest.MonkeyPatch) -> None:
        step = Loop.step
        die = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        patch.setattr(Loop, "step", lambda self, n, *rest: die() if n == number else step(self, n, *rest))

    return arrange


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (folder / "metrics/metrics.jsonl").read_bytes().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    trained = folder / "trained"
    (file,) = (trained / "unet" if (trained / "unet").is_dir() else trained).glob("*.safetensors")
    return load_file(file)


def result(folder: Path) -> dict[str, bytes]:
    """Every byte of what was trained."""
    return {file.name: file.read_bytes() for file in (folder / "trained").iterdir()}


def assert_same_training(one: Path, other: Path, *, rel: float = 1e-5) -> None:
    """Losses, gradient norms, evaluations and counts of two runs agree, line by line, and so do their weights.

    Gradients are compared by their norms and through the weights: with a large AdamW epsilon the weights move about as
    the gradients are, and not by their signs alone.
    """
    lines, others = metrics(one), metrics(other)
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    for key in ("loss", "grad_norm", "eval_loss", "tokens", "learning_rate"):
        expected = [line[key] for line in lines if key in line]
        assert [line[key] for line in others if key in line] == pytest.approx(expected, rel=rel), key
    mine, its = weights(one), weights(other)
    assert mine.keys() == its.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(its[name], tensor, rtol=1e-4, atol=1e-5)
