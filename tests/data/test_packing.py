"""Packing against the textbook version of the algorithm, and what it must never do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azft.data.packing import one_per_sequence, pack

LENGTHS = st.lists(st.integers(1, 60), max_size=80)


def naive_best_fit_decreasing(lengths: list[int], capacity: int) -> list[int]:
    """The load of every sequence, by the quadratic definition."""
    loads: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [i for i, load in enumerate(loads) if load + length <= capacity]
        if fitting:
            loads[max(fitting, key=lambda i: loads[i])] += length
        else:
            loads.append(length)
    return sorted(loads)


@given(LENGTHS, st.integers(60, 3000))
@settings(max_examples=200, deadline=None)
def test_every_document_is_in_exactly_one_sequence_and_loads_match_the_naive_version(
    lengths: list[int], capacity: int
) -> None:
    packed = pack(np.array(lengths, dtype=np.int64), capacity)
    assert sorted(packed.documents.tolist()) == list(range(len(lengths)))
    groups = [packed.documents[a:b] for a, b in zip(packed.offsets[:-1], packed.offsets[1:], strict=True)]
    loads = [sum(lengths[d] for d in group) for group in groups]
    assert sorted(loads) == naive_best_fit_decreasing(lengths, capacity)
    assert all(group.tolist() == sorted(group.tolist()) for group in groups)
    assert [g[0] for g in groups] == sorted(g[0] for g in groups)


def test_lengths_beyond_one_bit_set_word_fit_too() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 5000, 400)
    packed = pack(lengths, 5000)
    loads = np.add.reduceat(lengths[packed.documents], packed.offsets[:-1]).tolist()
    assert sorted(loads) == naive_best_fit_decreasing(lengths.tolist(), 5000)


def test_equal_lengths_give_the_equal_packing() -> None:
    lengths = np.random.default_rng(1).integers(1, 100, 1000)
    one, two = pack(lengths, 128), pack(lengths.copy(), 128)
    assert one.documents.tolist() == two.documents.tolist()
    assert one.offsets.tolist() == two.offsets.tolist()


@pytest.mark.parametrize("lengths", [[0, 3], [11]])
def test_documents_that_cannot_stand_in_a_sequence_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="1 to 10 tokens"):
        pack(np.array(lengths), 10)


def test_nothing_packs_to_nothing() -> None:
    assert len(pack(np.array([], dtype=np.int64), 10)) == 0


def test_packing_off_is_one_document_a_sequence() -> None:
    packed = one_per_sequence(3)
    assert packed.documents.tolist() == [0, 1, 2]
    assert packed.offsets.tolist() == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_million_documents_take_seconds() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(5.5, 1, 1_000_000), 1, 4096).astype(np.int64)
    packed = pack(lengths, 4096)
    assert lengths.sum() / (len(packed) * 4096) > 0.99
