"""Two ranks over gloo compute what one rank computes, and resume bit for bit; each rank is a forked child."""

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
import pytest
import torch
from safetensors.torch import load_file

from azft.parameters import FinetuneParameters
from azft.training.finetune import finetune
from azft.training.loop import Loop
from tests.training.tiny import parameters, save_model, tiny_dataset

HANG_SECONDS = 120
"""A rank that waits longer than this for the other ends with a traceback instead of a test run that hangs."""
LORA = {"name": "lora", "rank": 4, "dropout": 0.2}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    dataset = tiny_dataset(folder / "dataset", count=23, validation=9)
    return {"model": save_model(folder / "model", "mistral"), "dataset": dataset}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train(
    folder: Path,
    inputs: dict[str, Path],
    what: FinetuneParameters,
    *,
    ranks: int = 2,
    arrange: Callable[[int, pytest.MonkeyPatch], None] = lambda rank, patch: None,
) -> list[int]:
    """Fork the ranks as torchrun would start them; their exit codes. `arrange` prepares a rank before it starts."""
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
                arrange(rank, pytest.MonkeyPatch())
                outputs = {name: folder / name for name in ("trained", "checkpoints", "metrics")}
                finetune(what, **inputs, **outputs)
                status = 0
            except SystemExit as stopped:
                status = int(stopped.code or 0)
            except BaseException as error:
                print(f"rank {rank}: {type(error).__name__}: {error}", flush=True)
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (folder / "metrics/metrics.jsonl").read_bytes().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = (folder / "trained").glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize(
    ("technique", "batch", "micro"),
    [({"name": "full"}, 4, 1), ({"name": "full"}, 6, 3), (LORA | {"dropout": 0.0}, 5, 1)],
    ids=["full", "full-uneven", "lora-uneven"],
)
def test_two_ranks_train_as_one_does(
    technique: dict[str, Any], batch: int, micro: int, inputs: dict[str, Path], tmp_path: Path
) -> None:
    """Also where a batch does not divide by the ranks, and where a rank has nothing left of an epoch's last batch."""
    # The gradient is compared, and not the weights: AdamW's first steps turn rounding near zero into whole steps.
    settings = {"technique": technique, "global_batch_size": batch, "micro_batch_size": micro, "max_steps": 5}
    for name, ranks, strategy in (("one", 1, "none"), ("two", 2, "ddp")):
        what = parameters(strategy=strategy, adam_epsilon=1e-2, **settings)
        assert train(tmp_path / name, inputs, what, ranks=ranks) == [0] * ranks
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for key in ("loss", "grad_norm", "eval_loss", "tokens", "learning_rate"):
        assert [line[key] for line in two if key in line] == pytest.approx([x[key] for x in one if key in x], rel=2e-5)
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, rtol=1e-4, atol=1e-5)


def test_two_ranks_killed_and_resumed_end_with_the_same_bits(inputs: dict[str, Path], tmp_path: Path) -> None:
    what = parameters(technique=LORA, strategy="ddp", max_steps=6, global_batch_size=3, save_steps=2)

    def kill_both_before_step(number: int) -> Callable[[int, pytest.MonkeyPatch], None]:
        def arrange(_rank: int, patch: pytest.MonkeyPatch) -> None:
            step = Loop.step
            die = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
            patch.setattr(Loop, "step", lambda self, n, *rest: die() if n == number else step(self, n, *rest))

        return arrange

    assert train(tmp_path / "whole", inputs, what) == [0, 0]
    for number in (3, 5):
        assert train(tmp_path / "killed", inputs, what, arrange=kill_both_before_step(number)) == [-9, -9]
    assert train(tmp_path / "killed", inputs, what) == [0, 0]
    assert {f.name: f.read_bytes() for f in (tmp_path / "killed/trained").iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "whole/trained").iterdir()
    }


def test_sigterm_at_one_rank_stops_all_after_the_same_step(inputs: dict[str, Path], tmp_path: Path) -> None:
    what = parameters(strategy="ddp", max_steps=6, global_batch_size=3, save_steps=100)

    def arrange(rank: int, patch: pytest.MonkeyPatch) -> None:
        step = Loop.step

        def interrupted(self: Loop, number: int, *rest: Any) -> Any:
            if rank == 1 and number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(self, number, *rest)

        patch.setattr(Loop, "step", interrupted)

    assert train(tmp_path, inputs, what, arrange=arrange) == [143, 143]
    assert (tmp_path / "checkpoints/step-00000003/manifest.json").is_file()


def test_a_checkpoint_of_two_ranks_goes_on_with_one(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Weights and optimizer are the same on every rank; only the random numbers start anew."""
    assert train(tmp_path, inputs, parameters(strategy="ddp", max_steps=4, save_steps=2)) == [0, 0]
    one = parameters(strategy="none", max_steps=4, save_steps=2)
    assert train(tmp_path, inputs, one, ranks=1) == [0]
    assert [line["step"] for line in metrics(tmp_path) if "loss" in line] == [1, 2, 3, 4]


@pytest.mark.slow
def test_torchrun_starts_the_ranks(inputs: dict[str, Path], tmp_path: Path) -> None:
    """The real launcher, once; everything else here forks, which saves the imports."""
    import subprocess

    (tmp_path / "parameters.json").write_bytes(parameters(strategy="ddp", max_steps=2).to_json())
    main = tmp_path / "main.py"
    main.write_text(
        "import pathlib, sys\n"
        "from azft.parameters import FinetuneParameters\n"
        "from azft.training.finetune import finetune\n"
        "here, model, dataset = map(pathlib.Path, sys.argv[1:])\n"
        "finetune(FinetuneParameters.read(here / 'parameters.json'), model=model, dataset=dataset,\n"
        "         trained=here / 'trained', checkpoints=here / 'checkpoints', metrics=here / 'metrics')\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    arguments = [str(main), str(tmp_path), str(inputs["model"]), str(inputs["dataset"])]
    path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*command, *arguments], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 ranks" in done.stdout
    assert done.stdout.count("step 2/2  loss") == 1
    assert len(weights(tmp_path)) > 5
