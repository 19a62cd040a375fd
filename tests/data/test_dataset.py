"""The dataset folder: what is written is what is read, damage is noticed, a crash leaves nothing half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from azft.data.dataset import Source, open_dataset, read_manifest, verify
from azft.data.dataset_writer import write_dataset
from azft.errors import AzftError, NotFoundError
from azft.files import sha256_tree

DOCUMENTS = [([1, 2, 3], [0, 0, 1]), ([4, 5], [1, 1]), ([6, 7, 8, 9, 10], [0, 1, 1, 0, 1])]


def write(target: Path, *, vocab_size: int = 100, packing: bool = True, documents: list = DOCUMENTS) -> Path:
    options = {"vocab_size": vocab_size, "max_length": 8, "packing": packing, "tokenizer": "t"}
    with write_dataset(target, splits=("train", "validation"), **options) as writer:
        for tokens, mask in documents:
            writer.splits["train"].add(tokens, mask)
        writer.splits["validation"].add([11, 12], [False, True])
        writer.details["seed"] = 1
    return target


def test_documents_come_back_as_they_went_in(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path / "d"), "train")
    assert [(t.tolist(), m.tolist()) for t, m, *_ in map(dataset.document, range(3))] == DOCUMENTS
    assert dataset.document_lengths.tolist() == [3, 2, 5]


def test_sequences_hold_every_document_once_and_count_targets_only(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path / "d"), "train")
    sequences = [[tokens.tolist() for tokens, *_ in dataset.sequence(i)] for i in range(len(dataset))]
    assert sequences == [[[1, 2, 3], [6, 7, 8, 9, 10]], [[4, 5]]]
    assert dataset.sequence_lengths.tolist() == [8, 2]
    assert dataset.label_counts.tolist() == [4, 1]  # [4, 5] is all in the loss, but 4 follows nothing


def test_packing_off_keeps_documents_apart(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path / "d", packing=False), "train")
    assert [len(dataset.sequence(i)) for i in range(len(dataset))] == [1, 1, 1]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65536, np.uint16), (65537, np.uint32)])
def test_token_ids_take_the_narrowest_type(tmp_path: Path, vocab_size: int, dtype: type) -> None:
    documents = [([vocab_size - 1], [1])]
    dataset = open_dataset(write(tmp_path / "d", vocab_size=vocab_size, documents=documents), "train")
    assert dataset.tokens.dtype == dtype
    assert dataset.tokens[0] == vocab_size - 1


def test_equal_contents_give_equal_bytes_and_other_contents_another_fingerprint(tmp_path: Path) -> None:
    one, two = write(tmp_path / "1"), write(tmp_path / "2")
    other = write(tmp_path / "3", documents=[*DOCUMENTS[:2], ([6, 7, 8, 9, 11], [0, 1, 1, 0, 1])])
    assert sha256_tree(one) == sha256_tree(two)
    assert read_manifest(one)["fingerprint"] != read_manifest(other)["fingerprint"]


@pytest.mark.parametrize("name", ["tokens", "loss_mask", "document_offsets", "sequence_offsets", "label_counts"])
def test_a_flipped_bit_is_found_by_verify_and_a_short_file_already_at_opening(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "d")
    verify(folder)
    path = folder / "train" / f"{name}.bin"
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(AzftError, match=f"{name}.bin is missing or damaged"):
        verify(folder)
    path.write_bytes(data[:-1])
    with pytest.raises(AzftError, match=f"{name}.bin is missing or damaged"):
        open_dataset(folder, "train")


def test_an_error_while_writing_leaves_the_old_dataset(tmp_path: Path) -> None:
    folder = write(tmp_path / "d")
    before = sha256_tree(folder)
    with pytest.raises(ValueError, match="token ids"):
        write(folder, documents=[([100], [1])])
    assert sha256_tree(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_a_folder_that_is_already_there_is_filled_in_place_as_it_may_be_mounted(tmp_path: Path) -> None:
    target = tmp_path / "mounted"
    (target / ".writing").mkdir(parents=True)  # a crash before left it
    number = target.stat().st_ino
    write(target)
    write(target, documents=DOCUMENTS[:1])
    write(target)
    assert target.stat().st_ino == number
    assert sha256_tree(target) == sha256_tree(write(tmp_path / "fresh"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="token ids"):
        write(empty, documents=[([100], [1])])
    assert list(empty.iterdir()) == []


def test_a_crash_while_replacing_leaves_no_dataset_rather_than_a_mixed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "d")
    moves = iter(range(2))
    replace = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if next(moves, None) is None and self.parent.name == ".writing":
            raise OSError("the power went out")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="power"):
        write(folder, documents=DOCUMENTS[:1])
    with pytest.raises(NotFoundError, match="not a prepared dataset"):
        open_dataset(folder, "train")
    monkeypatch.undo()
    verify(write(folder))


@pytest.mark.parametrize("document", [([], []), ([1] * 9, [1] * 9), ([1, 2], [1]), ([-1], [1])])
def test_documents_that_could_not_be_trained_on_are_refused(tmp_path: Path, document: tuple) -> None:
    with pytest.raises(ValueError, match=r"a document must|token ids"):
        write(tmp_path / "d", documents=[document])


def test_an_empty_split_is_readable(tmp_path: Path) -> None:
    dataset = open_dataset(write(tmp_path / "d", documents=[]), "train")
    assert len(dataset) == 0
    assert dataset.tokens.shape == (0,)


def test_a_missing_split_or_folder_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "d")
    with pytest.raises(NotFoundError, match="no split `test`"):
        open_dataset(folder, "test")
    with pytest.raises(NotFoundError, match=r"no dataset\.json"):
        open_dataset(tmp_path, "train")


def test_targets_stand_beside_the_tokens_they_belong_to(tmp_path: Path) -> None:
    documents = [([5, 6, 7], [1, 0, 1], [[1, 2], [3, 4]]), ([8], [1], [[5, 6]]), ([9, 9], [0, 0], np.zeros((0, 2)))]
    with write_dataset(
        tmp_path / "d", splits=["train"], vocab_size=10, max_length=8, packing=False, tokenizer="t",
        objective="span", target_width=2, labels=["a"],
    ) as writer:  # fmt: skip
        for tokens, mask, targets in documents:
            writer.splits["train"].add(tokens, mask, np.array(targets, dtype=np.int32))
        with pytest.raises(ValueError, match="1 tokens in the loss need 2 targets"):
            writer.splits["train"].add([1], [1], np.zeros((1, 1), dtype=np.int32))
        with pytest.raises(ValueError, match="1 tokens in the loss need 2 targets"):
            writer.splits["train"].add([1], [1])
    dataset = open_dataset(tmp_path / "d", "train")
    assert (dataset.objective, dataset.labels, dataset.label_counts.tolist()) == ("span", ("a",), [2, 1, 0])
    read = [dataset.document(number).targets for number in range(3)]
    assert [one.tolist() for one in read if one is not None] == [[[1, 2], [3, 4]], [[5, 6]], []]


def test_references_belong_to_their_document_and_training_rows_have_none(tmp_path: Path) -> None:
    right: list[tuple[str, ...]] = [(), ("Paris", "in Paris,\n\u2028France"), (), ("",), ()]
    with write_dataset(
        tmp_path / "data", splits=["train", "test"], vocab_size=9, max_length=4, packing=True, tokenizer=""
    ) as writer:
        for split in writer.splits.values():
            for references in right:
                split.add([1, 2, 3], [False, True, True], references=references)
    verify(tmp_path / "data")
    test, train = (open_dataset(tmp_path / "data", split) for split in ("test", "train"))
    assert [tuple(test.references_of(number)) for number in range(5)] == right
    assert [train.references_of(number) for number in range(5)] == [[]] * 5


def test_second_texts_and_sources_come_back_and_sources_of_training_rows_are_not_kept(tmp_path: Path) -> None:
    source = Source(0, "on Sunday", ((0, 2), (3, 9), (0, 0)))
    told = np.array([[1, 1]], dtype=np.int32)
    options = {"vocab_size": 16, "max_length": 8, "packing": False, "tokenizer": "t", "target_width": 2}
    with write_dataset(tmp_path / "d", splits=("train", "test"), **options) as writer:
        for split in writer.splits.values():
            split.add([1, 2, 3, 4, 5], [1, 0, 0, 0, 0], told, ("Sunday",), 2, source)
            split.add([1, 2], [1, 0], told)
    train, test = (open_dataset(tmp_path / "d", split) for split in ("train", "test"))
    assert [train.document(n).second for n in range(2)] == [2, 2]
    assert train.all_sources() == []
    assert [Source(s.row, s.text, tuple(map(tuple, s.offsets))) for s in test.all_sources()] == [source]
    assert open_dataset(write(tmp_path / "plain"), "train").document(0).second is None
