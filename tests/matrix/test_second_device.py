"""Nothing that a run needs stays on the CPU: cells go from training to the package on a second device.

A GPU is at hand only here and there; a tensor that was left behind would end every run on one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.matrix.cells import cells
from tests.matrix.outcomes import REFUSED

ALL = [str(cell) for cell in cells() if str(cell) not in REFUSED and cell.technique != "qlora"]
"""qlora's weights come from bitsandbytes, which has kernels of its own for each device."""
SHOWN = ["chat-completion-decoder-full", "chat-completion-decoder-dora", "chat-completion-decoder-prefix-tuning",
         "text-classification-encoder-lora", "token-classification-encoder-ia3", "question-answering-encoder-lora",
         "translation-encoder-decoder-freeze", "preference-tuning-decoder-lora",
         "text-to-image-diffusion-lora"]  # fmt: skip
"""One of each objective, and techniques that are made in different ways."""
ROOT = Path(__file__).parents[2]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: the device changes torch for good."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def run(names: list[str]) -> dict[str, dict[str, Any]]:
    done = python("-m", "tests.matrix.elsewhere", *names)
    assert done.returncode == 0, done.stderr[-3000:]
    told = {one["cell"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert list(told) == [name for name in ALL if name in names]
    return told


def assert_equal_figures(told: dict[str, dict[str, Any]]) -> None:
    for name, one in told.items():
        assert "error" not in one, f"{name}\n{one['error']}"
        for which in ("base", "tuned"):
            # Sums are made in another order: weights that moved together are no longer side by side in memory.
            assert one["gpu"][which]["loss"] == pytest.approx(one["cpu"][which]["loss"], rel=2e-3), name


def test_cells_run_on_a_second_device_as_on_the_cpu() -> None:
    assert_equal_figures(run(SHOWN))


@pytest.mark.slow
def test_every_cell_does() -> None:
    assert_equal_figures(run(ALL))


def test_the_second_device_notices_a_tensor_that_stayed_behind() -> None:
    script = """
import torch
from tests.helpers.second_device import DEVICE, SecondDevice
with SecondDevice():
    layer = torch.nn.Linear(3, 2).to(DEVICE)
    there = torch.ones(4, 3, device=DEVICE)
    layer(there).sum().backward()
    print(layer.weight.grad.device, layer(there).cpu().device, (there * torch.tensor(2.0)).device)
    for wrong in (lambda: layer(torch.ones(4, 3)), lambda: there + torch.ones(4, 3), there.numpy):
        try:
            print("not noticed:", wrong())
        except (RuntimeError, TypeError) as error:
            print(type(error).__name__)
"""
    done = python("-c", script)
    assert done.stdout.split() == ["gpu:0", "cpu", "gpu:0", "RuntimeError", "RuntimeError", "TypeError"], done.stderr
