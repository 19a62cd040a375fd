"""The rows of the benchmark of tasks tell who they are, and its rule of equal loss holds for azft's own lane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import run, tasks, tasks_data, tasks_lane, training
from benchmarks.tasks_data import FIRST_NAME, STRIDE, TASKS


@pytest.mark.parametrize("name", TASKS)
def test_rows_are_the_same_each_time_and_each_tells_its_name_once(name: str) -> None:
    task = TASKS[name]
    rows, again = (list(task.rows(np.random.default_rng(5), task.documents)) for _ in range(2))
    assert rows == again
    for number, row in enumerate(rows):
        for ids, mask, told, _second in row["documents"]:
            assert ids[1] == FIRST_NAME + number
            assert sum(FIRST_NAME <= token < FIRST_NAME + task.documents for token in ids) == 1
            assert len(ids) == len(mask) <= task.longest
            assert told is None or (len(told) == sum(mask) and all(len(one) == task.target_width for one in told))


def test_windows_of_a_context_overlap_and_mark_the_same_answer() -> None:
    rows = list(TASKS["mark"].rows(np.random.default_rng(5), 40))
    parts = [row["input_ids"][row["token_type_ids"].index(1) : -1] for row in rows]
    continued = [n for n in range(1, 40) if parts[n][:STRIDE] == parts[n - 1][-STRIDE:]]
    assert continued
    assert any(row["start_positions"] for row in rows)
    for row in rows:
        start, end, second = row["start_positions"], row["end_positions"], row["token_type_ids"].index(1)
        assert (start, end) == (0, 0) or second <= start <= end < len(row["input_ids"]) - 1


def test_azfts_lane_has_the_loss_that_the_rows_have_alone(tmp_path: Path) -> None:
    tasks_data.make("answer", tmp_path, 8)
    work = tasks_data.Work("answer", tmp_path)
    result = tasks_lane.azft(work)
    assert result["loss_difference"] < training.TOLERANCE / 100
    assert (result["steps"], result["rate"] > 0) == (1, True)
    right = work.expected(torch.tensor([[0, FIRST_NAME]]))
    assert abs(right - work.expected(torch.tensor([[0, FIRST_NAME + 1]]))) > training.TOLERANCE


def test_groups_tasks_and_lanes_are_named_alone() -> None:
    assert run.named(["startup", "tasks:mark,tag.azft"]) == {"startup": [], "tasks": ["mark", "tag.azft"]}
    assert tasks.chosen(["mark", "tag.azft"]) == {"mark": list(TASKS["mark"].lanes), "tag": ["azft"]}
    assert set(tasks.chosen([])) == set(TASKS)
    for wrong in ("nothing", "startup:part"):
        with pytest.raises(SystemExit, match=f"There is no {wrong}"):
            run.named([wrong])
    with pytest.raises(SystemExit, match=r"There is no tag\.trl.*lanes of tag: azft"):
        tasks.chosen(["tag.trl"])
