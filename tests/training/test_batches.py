"""Which sequences form which batch on which rank; positions, rows and labels of a batch."""

from __future__ import annotations

import numpy as np
import pytest

from azft.training.batches import assemble, epoch_order, global_batch, share


def test_positions_restart_and_each_label_is_predicted_from_the_token_before_it() -> None:
    batch = assemble(
        [
            (np.array([10, 11, 12, 13]), np.array([1, 0, 1, 1])),
            (np.array([20]), np.array([1])),
            (np.array([30, 31, 32]), np.array([0, 1, 0])),
        ]
    )
    assert batch.input_ids.tolist() == [[10, 11, 12, 13, 20, 30, 31, 32]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 0, 1, 2]]
    assert batch.document_lengths == (4, 1, 3)
    assert (batch.rows.tolist(), batch.labels.tolist()) == ([1, 2, 5], [12, 13, 31])


def test_an_epoch_visits_every_sequence_once_and_epochs_differ() -> None:
    for epoch in range(3):
        seen = np.concatenate([global_batch(11, size=4, step=3 * epoch + s, seed=1) for s in range(3)])
        assert sorted(seen) == list(range(11))
    assert epoch_order(11, seed=1, epoch=0).tolist() != epoch_order(11, seed=1, epoch=1).tolist()
    assert epoch_order(11, seed=1, epoch=0).tolist() != epoch_order(11, seed=2, epoch=0).tolist()


def test_the_last_batch_of_an_epoch_may_be_smaller() -> None:
    assert [len(global_batch(11, size=4, step=step, seed=0)) for step in range(6)] == [4, 4, 3, 4, 4, 3]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("micro", [1, 2, 4])
@pytest.mark.parametrize("size", [1, 5, 8])
def test_ranks_share_a_batch_without_loss_or_repeat_in_equally_many_rounds(size: int, micro: int, ranks: int) -> None:
    shares = [share(range(size), micro=micro, rank=rank, ranks=ranks) for rank in range(ranks)]
    assert len({len(one) for one in shares}) == 1
    assert sorted(s for one in shares for members in one for s in members) == list(range(size))
    assert all(len(members) <= micro for one in shares for members in one)
