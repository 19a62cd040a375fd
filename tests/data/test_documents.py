"""What becomes of long rows: no label is lost by splitting, nothing unlearnable is kept."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from azft.data.documents import Counts, LongRows, Piece, cut, pieces
from azft.data.rendering import Rendered


def rendered(length: int, *spans: tuple[int, int], straddling: int = 0) -> Rendered:
    return Rendered("", (), list(range(100, 100 + length)), spans, straddling)


def documents(row: Rendered, limit: int, long_rows: LongRows, counts: Counts) -> Iterator[Piece]:
    return pieces(row.token_ids, row.loss_mask, limit, long_rows, counts, straddling=row.straddling > 0)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(8, 20))
def test_splitting_learns_every_target_exactly_once(labels: list[bool], max_length: int) -> None:
    ids, mask = list(range(len(labels))), np.array(labels)
    parts = list(cut(ids, mask, max_length, "split"))
    assert all(len(tokens) == len(part) <= max_length for tokens, part, *_ in parts)
    learned = [int(t) for tokens, part, *_ in parts for t, label in zip(tokens[1:], part[1:], strict=True) if label]
    assert learned == [i for i, label in enumerate(labels) if label and i > 0]
    for (before, *_), (after, part, *_) in pairwise(parts):
        assert before[-1] == after[0]
        assert not part[0]


def test_long_rows_are_dropped_truncated_or_split_and_counted() -> None:
    row = rendered(25, (20, 25))
    counts = Counts()
    assert list(documents(row, 10, "drop", counts)) == []
    assert (counts.rows, counts.long_rows, counts.dropped_long, counts.documents) == (1, 1, 1, 0)
    counts = Counts()
    assert list(documents(row, 10, "truncate", counts)) == []  # the answer was cut off whole
    assert (counts.long_rows, counts.dropped_long, counts.dropped_unlabelled) == (1, 0, 1)
    kept = list(documents(row, 22, "truncate", counts))
    assert [(len(ids), int(mask.sum())) for ids, mask, *_ in kept] == [(22, 2)]
    counts = Counts()
    kept = list(documents(row, 10, "split", counts))
    assert [ids.tolist() for ids, *_ in kept] == [list(range(118, 125))]  # the pieces before hold nothing to learn
    assert (counts.documents, counts.dropped_unlabelled) == (1, 2)


@pytest.mark.parametrize("policy", ["drop", "truncate", "split", "error"])
def test_rows_that_fit_are_documents_as_they_are(policy: str) -> None:
    counts = Counts()
    [(ids, mask, *_)] = documents(rendered(10, (3, 6), (8, 10), straddling=1), 10, policy, counts)
    assert ids.tolist() == list(range(100, 110))
    assert np.flatnonzero(mask).tolist() == [3, 4, 5, 8, 9]
    assert counts == Counts(rows=1, documents=1, straddling=1)


def test_a_document_whose_only_label_is_its_first_token_has_nothing_to_learn() -> None:
    counts = Counts()
    assert list(documents(rendered(5, (0, 1)), 10, "drop", counts)) == []
    assert counts.dropped_unlabelled == 1
