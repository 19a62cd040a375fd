"""Two ranks over gloo compute what one rank computes, under every strategy, and DDP resumes bit for bit.

Each rank is a forked child. Bit for bit needs one order of adding up, which two ranks of gloo always have.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from azft.training.loop import Loop
from tests.training.ranked import (
    assert_same_training,
    free_port,
    kill_all_before_step,
    metrics,
    result,
    train,
    weights,
)
from tests.training.tiny import parameters, save_model, tiny_dataset

LORA = {"name": "lora", "rank": 4, "dropout": 0.2}


def zero(stage: int) -> dict[str, Any]:
    """DeepSpeed keeps weights below a threshold whole in stage 3; every one of a tiny model's would be."""
    config = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
    return {"strategy": "deepspeed", "zero_stage": stage, "config": config}


STRATEGIES: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "fsdp": {"strategy": "fsdp"},
    "zero-1": zero(1),
    "zero-2": zero(2),
    "zero-3": zero(3),
}
CASES: dict[str, dict[str, Any]] = {
    # Also where a batch does not divide by the ranks, and where a rank has nothing left of an epoch's last batch.
    "full": {"technique": {"name": "full"}, "global_batch_size": 4},
    "full-uneven": {"technique": {"name": "full"}, "global_batch_size": 6, "micro_batch_size": 3},
    "lora-uneven": {"technique": LORA | {"dropout": 0.0}, "global_batch_size": 5},
    "checkpointed": {"technique": {"name": "full"}, "global_batch_size": 4, "gradient_checkpointing": True},
}
SETTINGS = {"max_steps": 5, "adam_epsilon": 1e-2}
"""AdamW's first steps turn rounding near zero into whole steps, unless its epsilon is large."""
FAST = {
    ("ddp", "full"),
    ("ddp", "lora-uneven"),
    ("fsdp", "full-uneven"),
    ("fsdp", "lora-uneven"),
    ("zero-1", "full-uneven"),
    ("zero-2", "lora-uneven"),
    ("zero-3", "full-uneven"),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    dataset = tiny_dataset(folder / "dataset", count=23, validation=9)
    return {"model": save_model(folder / "model", "mistral"), "dataset": dataset}


@pytest.fixture(scope="module")
def alone(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What one process makes of each case."""
    folders = {name: tmp_path_factory.mktemp(name) for name in CASES}
    for name, folder in folders.items():
        assert train(folder, inputs, parameters(**CASES[name], **SETTINGS), ranks=1) == [0]
    return folders


@pytest.mark.parametrize(
    ("strategy", "case"),
    [
        pytest.param(strategy, case, marks=[] if (strategy, case) in FAST else pytest.mark.slow)
        for strategy in STRATEGIES
        for case in CASES
    ],
)
def test_two_ranks_train_as_one_does(
    strategy: str, case: str, inputs: dict[str, Path], alone: dict[str, Path], tmp_path: Path
) -> None:
    what = parameters(strategy=STRATEGIES[strategy], **CASES[case], **SETTINGS)
    assert train(tmp_path, inputs, what) == [0, 0]
    assert_same_training(alone[case], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_three_ranks_and_one_train_as_one_process_does(
    strategy: str, inputs: dict[str, Path], alone: dict[str, Path], tmp_path: Path
) -> None:
    """Three do not divide the weights' rows evenly; one has nobody to share with."""
    what = parameters(strategy=STRATEGIES[strategy], **CASES["full-uneven"], **SETTINGS)
    for ranks in (1, 3):
        assert train(tmp_path / str(ranks), inputs, what, ranks=ranks) == [0] * ranks
        assert_same_training(alone["full-uneven"], tmp_path / str(ranks))


def test_two_ranks_killed_and_resumed_end_with_the_same_bits(inputs: dict[str, Path], tmp_path: Path) -> None:
    what = parameters(technique=LORA, strategy="ddp", max_steps=6, global_batch_size=3, save_steps=2)
    assert train(tmp_path / "whole", inputs, what) == [0, 0]
    for number in (3, 5):
        assert train(tmp_path / "killed", inputs, what, arrange=kill_all_before_step(number)) == [-9, -9]
    assert train(tmp_path / "killed", inputs, what) == [0, 0]
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


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
    """Weights and optimizer are whole in it; only the random numbers start anew."""
    assert train(tmp_path, inputs, parameters(strategy="ddp", max_steps=4, save_steps=2)) == [0, 0]
    one = parameters(strategy="none", max_steps=4, save_steps=2)
    assert train(tmp_path, inputs, one, ranks=1) == [0]
    assert [line["step"] for line in metrics(tmp_path) if "loss" in line] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_torchrun_starts_the_ranks(strategy: str, inputs: dict[str, Path], tmp_path: Path) -> None:
    """The real launcher; everything else here forks, which saves the imports."""
    (tmp_path / "parameters.json").write_bytes(parameters(strategy=STRATEGIES[strategy], max_steps=2).to_json())
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
