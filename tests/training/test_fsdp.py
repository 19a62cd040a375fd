"""FSDP: weights and optimizer really are in parts, on the CPU too; what is saved is whole, or nothing is.

That it computes what one process computes is shown in test_ranks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from azft.training import snapshot
from azft.training.distribution.fsdp import FullyShardedDataParallel
from azft.training.loop import Loop
from tests.training.ranked import assert_same_training, kill_all_before_step, metrics, result, train
from tests.training.tiny import parameters, save_model, tiny_dataset

FULL = {"name": "full"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    dataset = tiny_dataset(folder / "dataset", count=23, validation=9)
    return {"model": save_model(folder / "model", "mistral"), "dataset": dataset}


def test_each_rank_holds_its_half_and_no_more(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Of every weight and both moments, at every checkpoint, after evaluations too (which gather, and don't let go)."""

    def arrange(rank: int, patch: pytest.MonkeyPatch) -> None:
        save = Loop.save

        def counting(self: Loop, progress: Any) -> None:
            weights = list(snapshot.trained_parameters(self.module).values())
            local = sum(p.to_local().numel() for p in weights)  # type: ignore[attr-defined]
            states = [value for p in weights for value in self.optimizer.state[p].values() if value.dim()]
            moments = sum(value.to_local().numel() for value in states)  # type: ignore[attr-defined]
            everything = sum(p.numel() for p in weights)
            assert abs(local - everything / 2) <= everything / 50
            assert moments == 2 * local
            save(self, progress)
            (tmp_path / f"counted-{rank}").touch()

        patch.setattr(Loop, "save", counting)

    what = parameters(technique=FULL, strategy="fsdp", max_steps=4, eval_steps=1, save_steps=2)
    assert train(tmp_path, inputs, what, arrange=arrange) == [0, 0]
    assert (tmp_path / "counted-0").is_file()
    assert (tmp_path / "counted-1").is_file()


@pytest.mark.parametrize(
    "technique", [FULL, pytest.param({"name": "lora", "rank": 4, "dropout": 0.2}, marks=pytest.mark.slow)]
)
def test_killed_and_resumed_it_ends_with_the_same_bits(
    technique: dict[str, Any], inputs: dict[str, Path], tmp_path: Path
) -> None:
    what = parameters(technique=technique, strategy="fsdp", max_steps=5, global_batch_size=3, save_steps=2)
    assert train(tmp_path / "whole", inputs, what) == [0, 0]
    assert train(tmp_path / "killed", inputs, what, arrange=kill_all_before_step(3)) == [-9, -9]
    assert train(tmp_path / "killed", inputs, what) == [0, 0]
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


@pytest.mark.parametrize(
    ("strategy", "ranks"),
    [("none", 1), pytest.param("ddp", 2, marks=pytest.mark.slow), pytest.param("fsdp", 3, marks=pytest.mark.slow)],
)
def test_a_checkpoint_goes_on_under_another_strategy_and_number_of_ranks(
    strategy: str, ranks: int, inputs: dict[str, Path], tmp_path: Path
) -> None:
    """Checkpoints hold whole tensors, so that the training is the same as if it had never changed hands."""
    settings = {"max_steps": 5, "save_steps": 2, "global_batch_size": 6, "adam_epsilon": 1e-2}
    assert train(tmp_path / "alone", inputs, parameters(**settings), ranks=1) == [0]
    sharded = parameters(strategy="fsdp", **settings)
    moved = tmp_path / "moved"
    assert train(moved, inputs, sharded, arrange=kill_all_before_step(3)) == [-9, -9]
    assert train(moved, inputs, parameters(strategy=strategy, **settings), ranks=ranks) == [0] * ranks
    assert len(metrics(moved)) == len(metrics(tmp_path / "alone"))
    assert_same_training(tmp_path / "alone", moved)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("nothing", "its shape is (0,)"),
        pytest.param("zeros", "the sum of its squares is 0", marks=pytest.mark.slow),
        pytest.param("own part", "was not gathered from the ranks as they hold it", marks=pytest.mark.slow),
    ],
)
def test_what_was_not_gathered_is_never_written(
    fault: str, complaint: str, inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(_self: Any, parameter: Any) -> torch.Tensor:
        local = parameter.to_local().detach()
        if fault == "own part":  # a gathering that hears of one rank only
            return torch.nn.functional.pad(local, (0, 0) * (local.dim() - 1) + (0, parameter.shape[0] - len(local)))
        return torch.zeros(parameter.shape if fault == "zeros" else 0)

    def arrange(_rank: int, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Loop, "save", lambda self, progress: None)
        patch.setattr(FullyShardedDataParallel, "whole_weight", broken)

    what = parameters(technique={"name": "lora", "rank": 4}, strategy="fsdp", max_steps=2)
    assert 0 not in train(tmp_path, inputs, what, arrange=arrange)
    said = capfd.readouterr().out
    assert complaint in said
    assert "Nothing was written" in said
    assert not (tmp_path / "trained/training.json").exists()


@pytest.mark.slow
def test_a_checkpoint_in_many_files_resumes_with_the_same_bits(inputs: dict[str, Path], tmp_path: Path) -> None:
    """As large models' are: no rank has more than a few tensors of it in memory at a time."""

    def small_files(_rank: int, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(snapshot, "_AT_A_TIME", 4096)

    def arrange(rank: int, patch: pytest.MonkeyPatch) -> None:
        small_files(rank, patch)
        kill_all_before_step(3)(rank, patch)

    what = parameters(technique=FULL, strategy="fsdp", max_steps=5, global_batch_size=3, save_steps=2)
    assert train(tmp_path / "whole", inputs, what) == [0, 0]
    assert train(tmp_path / "killed", inputs, what, arrange=arrange) == [-9, -9]
    assert len(list((tmp_path / "killed/checkpoints/step-00000002").glob("optimizer*.safetensors"))) > 5
    assert train(tmp_path / "killed", inputs, what, arrange=small_files) == [0, 0]
    assert result(tmp_path / "killed") == result(tmp_path / "whole")
