"""Cells on a second device and on the CPU, in a process of their own: `python -m tests.matrix.elsewhere CELL...`.

Writes one line of JSON for each cell: its figures on both, or what went wrong.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed, which libraries import, knows no such device

import orjson
import torch

from azft.training import evaluate, generate
from azft.training.distribution import single
from tests.helpers.second_device import DEVICE, SecondDevice
from tests.matrix.cells import Bench, Cell, cells
from tests.matrix.test_matrix import measure_and_package, train


def figures(cell: Cell, bench: Bench, folder: Path, device: torch.device) -> dict[str, Any]:
    """What a cell's base and tuned model reach, from the start to its package."""
    for module in (evaluate, generate, single):
        module.pick_device = lambda _rank=0: device  # type: ignore[attr-defined]
    folder.mkdir()
    train(cell, bench, folder)
    measure_and_package(cell, bench, folder)
    found: dict[str, Any] = orjson.loads((folder / "evaluation" / "evaluation.json").read_bytes())
    return found


def main(wanted: list[str]) -> None:
    """Run the cells of these names."""
    print_to, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(Path(work) / "bench")
        bench.folder.mkdir()
        for number, cell in enumerate(cell for cell in cells() if str(cell) in wanted):
            told: dict[str, Any] = {"cell": str(cell)}
            try:
                told["cpu"] = figures(cell, bench, Path(work) / f"{number}-cpu", torch.device("cpu"))
                with SecondDevice():
                    told["gpu"] = figures(cell, bench, Path(work) / f"{number}-gpu", DEVICE)
            except Exception:
                told["error"] = traceback.format_exc()
            print(json.dumps(told), file=print_to, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
