"""Ranks load in turns where their node can't hold all their models at once, and end with the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from azft import host_memory
from azft.data.weight_headers import loading, stored_weights
from azft.errors import UsageError
from azft.training import models
from azft.training.distribution.fsdp import FullyShardedDataParallel
from azft.training.distribution.zero import Zero
from tests.training.ranked import Arrange, assert_same_training, metrics, result, train
from tests.training.technique_rows import ROWS, row
from tests.training.test_deepspeed import zero
from tests.training.test_preference import pairs
from tests.training.tiny import parameters, save_model, tiny_dataset, tiny_model

STRATEGIES: dict[str, Any] = {"fsdp": "fsdp", "zero-3": zero(3)}
SHARDED: tuple[Any, ...] = (FullyShardedDataParallel, Zero)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The model is stored in bf16, as most are: loading it in fp32 takes memory of each rank's own."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny_model("mistral").to(torch.bfloat16).save_pretrained(folder / "model")
    return {"model": folder / "model", "dataset": tiny_dataset(folder / "dataset", count=23, validation=9)}


def with_room_for(models_at_once: int, inputs: dict[str, Path], *, ranks: int, watch: Path | None = None) -> Arrange:
    """Let a node have memory for so many models and what stays of all of them; and note when ranks have one whole."""
    need = loading(stored_weights(inputs["model"]).values(), row("full"), "fp32")
    kept = need.weights // ranks
    memory = int((ranks * kept + models_at_once * (need.whole - kept)) / 0.9) + 8

    def arrange(rank: int, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(host_memory, "available", lambda: memory)
        if watch is None:
            return
        watch.mkdir(exist_ok=True)

        def noted(name: str, function: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
            def call(*given: Any, **named: Any) -> Any:
                began = time.monotonic()
                done = function(*given, **named)
                note = watch / f"{rank}-{name}"
                if not note.exists():  # the end loads once more
                    note.write_text(str(began if before else time.monotonic()))
                return done

            return call

        patch.setattr(models, "load_model", noted("begin", models.load_model, before=True))
        for strategy in SHARDED:
            patch.setattr(strategy, "shard", noted("end", strategy.shard, before=False))

    return arrange


def most_at_once(watch: Path, ranks: int) -> int:
    """How many of the ranks had a whole model at the same time, at most."""
    spans = [tuple(float((watch / f"{rank}-{name}").read_text()) for name in ("begin", "end")) for rank in range(ranks)]
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ranks_that_do_not_fit_together_take_turns_and_end_with_the_same_bits(
    strategy: str, inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    what = parameters(strategy=STRATEGIES[strategy], max_steps=2, global_batch_size=3)
    assert train(tmp_path / "together", inputs, what, ranks=3) == [0, 0, 0]
    assert "in turns" not in capfd.readouterr().out
    arrange = with_room_for(1, inputs, ranks=3, watch=tmp_path / "watch")
    assert train(tmp_path / "turns", inputs, what, ranks=3, arrange=arrange) == [0, 0, 0]
    assert "loading: the 3 ranks of a node in 3 turns" in capfd.readouterr().out
    assert most_at_once(tmp_path / "watch", 3) == 1
    assert result(tmp_path / "turns") == result(tmp_path / "together")


def test_as_many_load_at_once_as_there_is_room_for(
    inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    what = parameters(strategy="fsdp", max_steps=1, global_batch_size=4)
    arrange = with_room_for(3, inputs, ranks=4, watch=tmp_path / "watch")
    assert train(tmp_path, inputs, what, ranks=4, arrange=arrange) == [0] * 4
    assert "4 ranks of a node in 2 turns" in capfd.readouterr().out
    assert most_at_once(tmp_path / "watch", 4) <= 2, "two and two, and not three and one"


def test_models_that_are_views_of_their_files_need_no_turns(
    tmp_path: Path, inputs: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Loaded in the type in which it is stored, a model is there once for all ranks."""
    stored = {"model": save_model(tmp_path / "model", "mistral"), "dataset": inputs["dataset"]}
    what = parameters(technique=ROWS["lora"], strategy="fsdp", max_steps=1)
    assert train(tmp_path, stored, what, arrange=with_room_for(1, inputs, ranks=2)) == [0, 0]
    assert "turns" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("strategy", "which"),
    [
        ("fsdp", "lora-eva"),
        ("fsdp", "qlora"),
        pytest.param("fsdp", "lora-pissa", marks=pytest.mark.slow),
        pytest.param("zero-3", "lora-eva", marks=pytest.mark.slow),
        pytest.param("zero-3", "qlora", marks=pytest.mark.slow),
        pytest.param("zero-3", "lora-pissa", marks=pytest.mark.slow),
    ],
)
def test_techniques_that_look_at_data_or_weights_do_so_in_turns_too(
    which: str, strategy: str, inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    what = parameters(technique=ROWS[which], strategy=STRATEGIES[strategy], max_steps=2)
    assert train(tmp_path / "together", inputs, what) == [0, 0]
    arrange: Arrange = lambda _rank, patch: patch.setattr(host_memory, "available", lambda: 1)  # noqa: E731
    assert train(tmp_path / "turns", inputs, what, arrange=arrange) == [0, 0]
    assert "in 2 turns" in capfd.readouterr().out
    assert result(tmp_path / "turns") == result(tmp_path / "together")


def test_what_the_base_model_says_of_pairs_is_exchanged_after_the_turns(
    inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each rank asks the model that it has whole about its share of the pairs."""
    pairs(tmp_path / "pairs")
    given = {"model": save_model(tmp_path / "model"), "dataset": tmp_path / "pairs"}
    stored = {"model": inputs["model"], "dataset": tmp_path / "pairs"}
    settings: dict[str, Any] = {"max_steps": 3, "adam_epsilon": 1e-2}
    assert train(tmp_path / "alone", given, parameters(**settings), ranks=1) == [0]
    assert train(tmp_path / "together", given, parameters(strategy="fsdp", **settings)) == [0, 0]
    assert_same_training(tmp_path / "alone", tmp_path / "together")
    what = parameters(strategy="fsdp", **settings)
    assert train(tmp_path / "stored", stored, what) == [0, 0]
    assert train(tmp_path / "turns", stored, what, arrange=with_room_for(1, inputs, ranks=2)) == [0, 0]
    assert "in 2 turns" in capfd.readouterr().out
    assert result(tmp_path / "turns") == result(tmp_path / "stored")


def test_a_rank_that_can_not_load_ends_all_and_they_do_not_wait(
    inputs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def arrange(rank: int, patch: pytest.MonkeyPatch) -> None:
        with_room_for(1, inputs, ranks=3)(rank, patch)

        def fails(*_: Any, **__: Any) -> Any:
            print(f"rank {rank} loads", flush=True)
            raise UsageError("This model is broken.")

        patch.setattr(models, "load_model", fails)

    assert train(tmp_path, inputs, parameters(strategy="fsdp"), ranks=3, arrange=arrange) == [1, 1, 1]
    said = capfd.readouterr().out
    assert said.count("loads") == 1
    assert said.count("Error") == 1, "the one error is the cause"
    assert "UsageError: This model is broken." in said


def test_stage_3_decays_matrices_and_spares_vectors_as_one_process_does(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    """When the optimizer is made, weights of stage 3 are empty, and have one dimension."""
    stored = {"model": save_model(tmp_path / "model", "mistral"), "dataset": inputs["dataset"]}
    settings: dict[str, Any] = {"max_steps": 3, "adam_epsilon": 1e-2, "weight_decay": 5.0}
    assert train(tmp_path / "alone", stored, parameters(**settings), ranks=1) == [0]
    assert train(tmp_path / "parts", stored, parameters(strategy=zero(3), **settings)) == [0, 0]
    assert_same_training(tmp_path / "alone", tmp_path / "parts")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_result_is_gathered_in_the_type_in_which_it_is_written(
    strategy: str, inputs: dict[str, Path], tmp_path: Path
) -> None:
    """A model that is trained whole is not loaded in fp32 a second time, only to be rounded."""

    def arrange(rank: int, patch: pytest.MonkeyPatch) -> None:
        load, types = models.load_model, []

        def noted(*given: Any, **named: Any) -> Any:
            types.append(named["dtype"])
            if rank == 0:
                (tmp_path / "types").write_text(str(types))
            return load(*given, **named)

        patch.setattr(models, "load_model", noted)

    what = parameters(strategy=STRATEGIES[strategy], max_steps=1)
    assert train(tmp_path, inputs, what, arrange=arrange) == [0, 0]
    assert (tmp_path / "types").read_text() == "[torch.float32, torch.bfloat16]"
    assert len(metrics(tmp_path)) > 0
