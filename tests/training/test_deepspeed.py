"""DeepSpeed's ZeRO in its three stages: really in parts, saved whole, and going on wherever another strategy would.

That it computes what one process computes is shown in test_ranks; what a recipe may say, in test_deepspeed_config.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from azft.training import snapshot
from azft.training.distribution.zero import Zero
from azft.training.loop import Loop, NonFiniteError
from tests.training.ranked import assert_same_training, kill_all_before_step, metrics, result, train
from tests.training.tiny import parameters, save_model, tiny_dataset

LORA = {"name": "lora", "rank": 4, "dropout": 0.2}


def zero(stage: int, **more: Any) -> dict[str, Any]:
    """DeepSpeed keeps weights below a threshold whole in stage 3; every one of a tiny model's would be."""
    config = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
    return {"strategy": "deepspeed", "zero_stage": stage, "config": config, **more}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    dataset = tiny_dataset(folder / "dataset", count=23, validation=9)
    return {"model": save_model(folder / "model", "mistral"), "dataset": dataset}


@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 3])
def test_each_rank_holds_its_half_and_no_more(stage: int, inputs: dict[str, Path], tmp_path: Path) -> None:
    """Of both moments in every stage, of the weights in the third."""

    def arrange(rank: int, patch: pytest.MonkeyPatch) -> None:
        save = Loop.save

        def counting(self: Loop, progress: Any) -> None:
            weights: list[Any] = list(snapshot.trained_parameters(self.module).values())
            everything = sum(getattr(p, "ds_numel", p.numel()) for p in weights)
            inner = self.ranks.optimizer.optimizer
            moments = sum(v.numel() for s in inner.state.values() for v in s.values() if v.dim())
            assert abs(moments - everything) <= everything / 50
            if stage == 3:
                assert {p.numel() for p in weights} == {0}
                assert abs(sum(p.ds_tensor.numel() for p in weights) - everything / 2) <= everything / 50
            save(self, progress)
            (tmp_path / f"counted-{rank}").touch()

        patch.setattr(Loop, "save", counting)

    what = parameters(strategy=zero(stage), max_steps=4, eval_steps=1, save_steps=2)
    assert train(tmp_path, inputs, what, arrange=arrange) == [0, 0]
    assert (tmp_path / "counted-0").is_file()
    assert (tmp_path / "counted-1").is_file()


@pytest.mark.parametrize(
    ("stage", "technique"),
    [
        pytest.param(1, {"name": "full"}, marks=pytest.mark.slow),
        (2, LORA),
        pytest.param(3, {"name": "full"}, marks=pytest.mark.slow),
        pytest.param(3, LORA, marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_it_ends_with_the_same_bits(
    stage: int, technique: dict[str, Any], inputs: dict[str, Path], tmp_path: Path
) -> None:
    what = parameters(technique=technique, strategy=zero(stage), max_steps=5, global_batch_size=3, save_steps=2)
    assert train(tmp_path / "whole", inputs, what) == [0, 0]
    assert train(tmp_path / "killed", inputs, what, arrange=kill_all_before_step(3)) == [-9, -9]
    assert train(tmp_path / "killed", inputs, what) == [0, 0]
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


@pytest.mark.parametrize(
    ("stages", "strategy", "ranks"),
    [
        (3, {"strategy": "none"}, 1),
        pytest.param(1, {"strategy": "fsdp"}, 2, marks=pytest.mark.slow),
        pytest.param(2, zero(3), 3, marks=pytest.mark.slow),
        pytest.param(3, zero(2), 3, marks=pytest.mark.slow),
        pytest.param(3, zero(3), 1, marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_goes_on_under_another_strategy_and_number_of_ranks(
    stages: int, strategy: dict[str, Any], ranks: int, inputs: dict[str, Path], tmp_path: Path
) -> None:
    """DeepSpeed's own would be refused: its parts are those of a number of ranks."""
    settings = {"max_steps": 5, "save_steps": 2, "global_batch_size": 6, "adam_epsilon": 1e-2}
    assert train(tmp_path / "alone", inputs, parameters(**settings), ranks=1) == [0]
    moved = tmp_path / "moved"
    what = parameters(strategy=zero(stages), **settings)
    assert train(moved, inputs, what, arrange=kill_all_before_step(3)) == [-9, -9]
    assert train(moved, inputs, parameters(strategy=strategy, **settings), ranks=ranks) == [0] * ranks
    assert len(metrics(moved)) == len(metrics(tmp_path / "alone"))
    assert_same_training(tmp_path / "alone", moved)


@pytest.mark.slow
def test_weights_that_stage_3_keeps_whole_resume_with_the_same_bits(inputs: dict[str, Path], tmp_path: Path) -> None:
    """Small ones are kept whole beside their parts, as all of this model are by default; both must be set again."""
    settings = {"max_steps": 5, "save_steps": 2, "global_batch_size": 3, "early_stopping_patience": 9, "eval_steps": 1}
    what = parameters(strategy={"strategy": "deepspeed", "zero_stage": 3}, **settings)
    assert train(tmp_path / "whole", inputs, what) == [0, 0]
    assert train(tmp_path / "killed", inputs, what, arrange=kill_all_before_step(3)) == [-9, -9]
    assert train(tmp_path / "killed", inputs, what) == [0, 0]
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "offload"), [(1, "optimizer"), (2, "optimizer"), (3, "optimizer"), (3, "all")])
def test_offloaded_it_trains_the_same_and_resumes(
    stage: int, offload: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    settings = {"max_steps": 5, "save_steps": 2, "global_batch_size": 6, "adam_epsilon": 1e-2}
    assert train(tmp_path / "alone", inputs, parameters(**settings), ranks=1) == [0]
    what = parameters(strategy=zero(stage, offload=offload), **settings)
    assert train(tmp_path / "whole", inputs, what) == [0, 0]
    assert_same_training(tmp_path / "alone", tmp_path / "whole")
    assert train(tmp_path / "killed", inputs, what, arrange=kill_all_before_step(3)) == [-9, -9]
    assert train(tmp_path / "killed", inputs, what) == [0, 0]
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


@pytest.mark.parametrize("stage", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_gradient_that_is_not_finite_updates_nothing(
    stage: int, inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """DeepSpeed's step comes before anybody sees the norm, and must leave the weights alone."""

    def arrange(rank: int, patch: pytest.MonkeyPatch) -> None:
        step, backward = Loop.step, Zero.backward

        def poisoned(self: Zero, loss: torch.Tensor, **scale: float) -> None:
            backward(self, loss * float("nan") if rank == 1 and (tmp_path / f"bad-{stage}").exists() else loss, **scale)

        def watched(self: Loop, number: int, *rest: Any) -> Any:
            if number != 2:
                return step(self, number, *rest)
            before = dict(snapshot.weights(self.module, self.ranks))
            (tmp_path / f"bad-{stage}").touch()
            try:
                return step(self, number, *rest)
            except NonFiniteError:
                after = dict(snapshot.weights(self.module, self.ranks))
                if rank == 0:  # which has them whole
                    assert len(before) > 5
                    assert all(torch.equal(before[name], after[name]) for name in before)
                    print("unchanged", flush=True)
                raise

        patch.setattr(Loop, "step", watched)
        patch.setattr(Zero, "backward", poisoned)

    assert train(tmp_path, inputs, parameters(strategy=zero(stage), max_steps=4), arrange=arrange) == [1, 1]
    said = capfd.readouterr().out
    assert said.count("NonFiniteError: Step 3") == 2
    assert said.count("unchanged") == 1


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("nothing", "its shape is (0,)"),
        pytest.param("zeros", "the sum of its squares is 0", marks=pytest.mark.slow),
    ],
)
def test_an_empty_adapter_of_stage_3_is_never_written(
    fault: str, complaint: str, inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a weight of stage 3 looks like to whoever forgets to gather it."""

    def broken(_self: Any, parameter: Any) -> torch.Tensor:
        return torch.zeros(parameter.ds_shape) if fault == "zeros" else parameter.detach()

    def arrange(_rank: int, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Loop, "save", lambda self, progress: None)
        patch.setattr(Zero, "whole_weight", broken)

    what = parameters(technique=LORA, strategy=zero(3), max_steps=2)
    assert 0 not in train(tmp_path, inputs, what, arrange=arrange)
    said = capfd.readouterr().out
    assert complaint in said
    assert "Nothing was written" in said
    assert not (tmp_path / "trained/training.json").exists()


def test_a_configuration_that_contradicts_the_recipe_stops_the_step_too(
    inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The number of ranks is known here only."""
    what = parameters(strategy=zero(1) | {"config": {"gradient_accumulation_steps": 4}}, max_steps=1)
    assert train(tmp_path, inputs, what) == [1, 1]
    said = capfd.readouterr().out
    assert "`gradient_accumulation_steps`: it is 4" in said
    assert "a global batch of 4 in micro-batches of 1 on 2 ranks takes 2" in said
