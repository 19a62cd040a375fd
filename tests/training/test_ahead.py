"""Batches made ahead: the same in the same order, their errors at their place, and no thread that outlives its loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from azft.data.dataset import Document
from azft.training.ahead import Ahead
from azft.training.batches import assemble
from azft.training.loop import Loop, NonFiniteError, Progress
from azft.training.padded import assemble_padded
from azft.training.preference import PairBatch
from azft.training.probe import token_loss
from azft.training.sequence_to_sequence import assemble_pairs
from tests.training.loops import one_process_loop
from tests.training.tiny import open_train, tiny_dataset, tiny_model

WAIT = 30
"""Seconds after which what should have happened is taken for never happening."""


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "azft-batches"]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_order_is_kept_and_no_more_is_made_than_there_is_room_for(depth: int) -> None:
    used = 0
    ahead_of_use = []

    def items() -> Iterator[int]:
        for number in range(50):
            ahead_of_use.append(number - used)
            yield number

    with Ahead(items(), depth) as numbers:
        seen = []
        for number in numbers:
            seen.append(number)
            used += 1
    assert seen == list(range(50))
    assert max(ahead_of_use) <= depth
    assert not threads()


def test_the_next_items_are_made_while_one_is_used() -> None:
    third = threading.Event()

    def items() -> Iterator[int]:
        yield from (0, 1)
        third.set()
        yield 2

    with Ahead(items()) as numbers:
        assert next(numbers) == 0
        assert third.wait(WAIT)
        assert list(numbers) == [1, 2]
        assert list(numbers) == []


def test_an_error_comes_where_its_item_would_have() -> None:
    def items() -> Iterator[int]:
        yield from (0, 1)
        raise OSError("the disk is gone")

    with Ahead(items()) as numbers:
        assert [next(numbers), next(numbers)] == [0, 1]
        for _ in range(2):
            with pytest.raises(OSError, match="the disk is gone"):
                next(numbers)
    assert not threads()


@pytest.mark.parametrize("leave", [KeyboardInterrupt, SystemExit, ValueError])
def test_the_thread_ends_with_whoever_leaves(leave: type[BaseException]) -> None:
    def forever() -> Iterator[int]:
        while True:
            yield 0

    with pytest.raises(leave), Ahead(forever()) as numbers:
        next(numbers)
        raise leave
    assert not threads()


def make_loop(folder: Path, **training: Any) -> Loop:
    """A loop of three steps an epoch and two micro-batches a step."""
    dataset = folder / "data"
    if not dataset.exists():
        tiny_dataset(dataset, count=24, packing=False)
    settings = {"global_batch_size": 8, "micro_batch_size": 4, "max_steps": 7, **training}
    module = token_loss(tiny_model("llama"), one_document=False)
    return one_process_loop(module, "next-token", open_train(dataset), folder, **settings)


def weights(loop: Loop) -> list[bytes]:
    return [p.detach().numpy().tobytes() for p in loop.module.parameters()]


def recorded(loop: Loop, patch: pytest.MonkeyPatch, then: Callable[[int], None] = lambda _count: None) -> list[Any]:
    """The sequences of the batches that the loop computes, one after another."""
    seen: list[Any] = []
    compute = loop.ranks.loss

    def loss(batch: Any) -> Any:
        seen.append(batch.sequences)
        then(len(seen))
        return compute(batch)

    patch.setattr(loop.ranks, "loss", loss)
    return seen


def test_a_run_sees_the_batches_that_its_steps_would_make_and_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_by_step, ahead = make_loop(tmp_path), make_loop(tmp_path)
    expected = recorded(step_by_step, monkeypatch)
    step_by_step.module.train()
    for number in range(7):
        step_by_step.step(number)
    seen = recorded(ahead, monkeypatch)
    ahead.run(Progress())
    assert seen == expected
    assert len(seen) == 14
    assert weights(ahead) == weights(step_by_step)


def test_a_run_that_was_stopped_within_an_epoch_goes_on_with_the_same_batches_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_loop(tmp_path)
    expected = recorded(whole, monkeypatch)
    whole.run(Progress())
    whole.checkpoints.remove(7)

    first = make_loop(tmp_path)
    stop = threading.Event()
    seen = recorded(first, monkeypatch, lambda count: stop.set() if count == 8 else None)
    progress, stopped = first.run(Progress(), stop.is_set)
    assert (progress.step, stopped, threads()) == (4, True, [])

    second = make_loop(tmp_path)
    after = recorded(second, monkeypatch)
    checkpoint = second.checkpoints.load(4)
    assert checkpoint is not None
    second.run(second.restore(checkpoint))
    assert seen + after == expected
    assert weights(second) == weights(whole)


def test_what_goes_wrong_with_the_data_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make_loop(tmp_path)
    seen = recorded(loop, monkeypatch)
    read, reads = type(loop.train).sequence, 0

    def failing(self: Any, index: int) -> Any:
        nonlocal reads
        reads += 1
        if reads > 20:  # in the sixth batch of four
            raise OSError("Input/output error")
        return read(self, index)

    monkeypatch.setattr(type(loop.train), "sequence", failing)
    with pytest.raises(OSError, match="Input/output error"):
        loop.run(Progress())
    assert len(seen) == 5
    assert not threads()


def test_no_thread_is_left_where_a_run_fails_or_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = make_loop(tmp_path)
    with torch.no_grad():
        next(broken.module.parameters()).fill_(torch.inf)
    with pytest.raises(NonFiniteError):
        broken.run(Progress())
    assert not threads()

    def interrupt(count: int) -> None:
        if count == 3:
            raise KeyboardInterrupt

    interrupted = make_loop(tmp_path)
    recorded(interrupted, monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run(Progress())
    assert not threads()


def batch_of_each_kind() -> list[Any]:
    document = Document(np.arange(6, dtype=np.uint16), np.array([0, 0, 0, 1, 1, 1], np.uint8))
    told = document._replace(targets=np.array([[1], [0], [2]], np.int32), second=3)
    tokens = assemble([document, document], (4, 5))
    pair = PairBatch(tokens, torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0]), "train")
    return [tokens, pair, assemble_pairs([document, document]), assemble_padded([told, told], (0, 1))]


@pytest.mark.parametrize("batch", batch_of_each_kind(), ids=lambda batch: type(batch).__name__)
def test_a_batch_moves_as_a_whole(batch: Any) -> None:
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))  # the one other device that every machine has
    assert vars(moved).keys() == vars(batch).keys()
    for name, value in vars(batch).items():
        there = getattr(moved, name)
        if isinstance(value, torch.Tensor):
            assert (there.device.type, there.shape, there.dtype) == ("meta", value.shape, value.dtype)
        elif name == "inner":
            assert there.input_ids.device.type == "meta"
        else:
            assert there == value
