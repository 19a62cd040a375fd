"""Checkpoints are whole or absent, are verified before use, rotate, and belong to one training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from azft.errors import UsageError
from azft.training.checkpoints import CheckpointFolder


def make(root: Path, *, keep: int = 2, **identity: str) -> CheckpointFolder:
    folder = CheckpointFolder(root, identity={"parameters": "p", "dataset": "d", "model": "m"} | identity, keep=keep)
    folder.clean()
    return folder


def save(folder: CheckpointFolder, step: int) -> None:
    tensors = {name: {"a": torch.full((3,), float(step))} for name in ("weights", "optimizer", "random")}
    folder.save(step, tensors.items(), {"step": step, "loss": 0.1 + 0.2})


def test_what_was_saved_comes_back_exactly(tmp_path: Path) -> None:
    save(make(tmp_path), 7)
    checkpoint = make(tmp_path).newest()
    assert checkpoint is not None
    assert checkpoint.state == {"step": 7, "loss": 0.1 + 0.2}
    assert torch.equal(checkpoint.tensors("optimizer")["a"], torch.full((3,), 7.0))


def test_what_is_written_in_pieces_comes_back_in_one(tmp_path: Path) -> None:
    folder = make(tmp_path)
    pieces = [
        ("weights", {"a": torch.ones(1)}),
        ("weights", {"b": torch.ones(2)}),
        ("random", {"cpu.0": torch.ones(3)}),
    ]
    folder.save(3, iter(pieces), {"step": 3})
    checkpoint = folder.newest()
    assert checkpoint is not None
    assert {name: tuple(t.shape) for name, t in checkpoint.tensors("weights").items()} == {"a": (1,), "b": (2,)}
    assert set(checkpoint.tensors("random")) == {"cpu.0"}
    assert "c" not in checkpoint.tensors("weights")
    (folder.path(3) / "weights-2.safetensors").unlink()
    assert make(tmp_path).newest() is None


def test_nothing_is_pickled(tmp_path: Path) -> None:
    folder = make(tmp_path)
    save(folder, 1)
    assert {path.suffix for path in folder.path(1).iterdir()} == {".json", ".safetensors"}


def test_the_newest_are_kept_and_the_best_besides(tmp_path: Path) -> None:
    folder = make(tmp_path, keep=2)
    for step in range(1, 8):
        save(folder, step)
        folder.rotate(best=3)
    assert folder.steps() == [3, 6, 7]


FILES = ("manifest.json", "state.json", "weights.safetensors", "optimizer.safetensors", "random.safetensors")


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "empty"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(name: str, harm: str, tmp_path: Path) -> None:
    folder = make(tmp_path)
    save(folder, 1)
    save(folder, 2)
    file = folder.path(2) / name
    data = file.read_bytes()
    if harm == "delete":
        file.unlink()
    else:
        flipped = bytearray(data)
        flipped[len(data) // 2] ^= 1
        file.write_bytes({"flip": bytes(flipped), "truncate": data[:-2], "empty": b""}[harm])
    checkpoint = folder.newest()
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert len(folder.problems) == 1
    assert folder.problems[0].startswith("Checkpoint step-00000002 can't be used: ")


@pytest.mark.slow
def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    folder = make(tmp_path)
    save(folder, 1)
    for name in FILES:
        file = folder.path(1) / name
        data = file.read_bytes()
        for position in range(len(data)):
            file.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
            assert folder.newest() is None, (name, position)
        file.write_bytes(data)
    assert folder.newest() is not None


def test_another_training_is_refused_and_told_apart(tmp_path: Path) -> None:
    save(make(tmp_path), 1)
    with pytest.raises(UsageError, match="another training: it has other dataset and model"):
        make(tmp_path, dataset="other", model="other").newest()


def test_leftovers_of_a_killed_writer_are_cleared_and_never_read(tmp_path: Path) -> None:
    save(make(tmp_path), 1)
    half = tmp_path / ".step-00000002.abc.tmp/step-00000002"
    half.mkdir(parents=True)
    (half / "weights.safetensors").write_bytes(b"half")
    folder = make(tmp_path)
    assert folder.steps() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
