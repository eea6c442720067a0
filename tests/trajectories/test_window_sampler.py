"""The order of windows that stand alone: every one once, shared by ranks, equal in length, resumable."""

import numpy as np
import pytest

from mscore import MscoreError, WindowBatchSampler
from mscore.trajectories import IDLE

CASES = [(1, 1, 1), (10, 3, 1), (12, 3, 2), (13, 4, 3), (2, 8, 2), (1000, 7, 3)]


def epoch_of(windows, batch_size, world_size, epoch, **arguments):
    """The batches of all ranks side by side: (steps, world_size * batch_size)."""
    ranks = []
    for rank in range(world_size):
        sampler = WindowBatchSampler(windows, batch_size, rank=rank, world_size=world_size, **arguments)
        sampler.set_epoch(epoch)
        ranks.append(np.array(list(sampler)))
        assert len(ranks[-1]) == len(sampler)
    return np.concatenate(ranks, axis=1)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("windows", "batch_size", "world_size"), CASES)
def test_every_window_comes_once_and_all_ranks_are_as_long(windows, batch_size, world_size, shuffle):
    for epoch in range(3):
        order = epoch_of(windows, batch_size, world_size, epoch, shuffle=shuffle, seed=3)
        assert sorted(order[order != IDLE].tolist()) == list(range(windows))
        assert (order[:-1] != IDLE).all(), "only the last step is filled up"


def test_two_ranks_see_what_one_process_with_all_rows_sees():
    for epoch in range(3):
        np.testing.assert_array_equal(epoch_of(61, 3, 2, epoch, seed=7), epoch_of(61, 6, 1, epoch, seed=7))


def test_the_order_is_a_function_of_seed_and_epoch():
    one, same, other = (WindowBatchSampler(50, 4, seed=seed) for seed in (5, 5, 6))
    same.schedule(9)
    np.testing.assert_array_equal(one.schedule(2), same.schedule(2))
    assert not np.array_equal(one.schedule(2), one.schedule(3))
    assert not np.array_equal(one.schedule(2), other.schedule(2))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()


def test_starting_in_the_middle_gives_the_rest():
    sampler = WindowBatchSampler(50, 4)
    sampler.set_epoch(4)
    whole = list(sampler)
    sampler.set_epoch(4, position=5)
    assert list(sampler) == whole[5:]
    assert len(sampler) == len(whole)


def test_without_shuffling_the_windows_come_by_number():
    assert list(WindowBatchSampler(5, 2, shuffle=False)) == [[0, 1], [2, 3], [4, IDLE]]


@pytest.mark.parametrize(
    "arguments", [{"windows": 0}, {"batch_size": 0}, {"seed": -1}, {"rank": 2, "world_size": 2}, {"world_size": 0}]
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(MscoreError):
        WindowBatchSampler(**{"windows": 3, "batch_size": 1, **arguments})
