"""The order of windows: whole episodes, never shared, continuous, equal in length, resumable."""

import itertools

import numpy as np
import pytest

from mscore import EpisodeBatchSampler, MscoreError
from mscore.trajectories import IDLE, Windows

CASES = [
    pytest.param([5, 3, 8, 1, 2, 7, 4], 2, 3, 1, id="mixed"),
    pytest.param([100, 1, 1, 1, 1, 1], 4, 2, 2, id="one long"),
    pytest.param([3] * 11, 3, 4, 1, id="single windows"),
    pytest.param([6, 6], 2, 8, 2, id="more lanes than episodes"),
    pytest.param(np.random.default_rng(0).integers(1, 300, 200).tolist(), 16, 4, 3, id="many"),
]


def epochs(lengths, window, batch_size, world_size, epoch, **arguments):
    """The batches of all ranks side by side: (steps, world_size * batch_size)."""
    samplers = [
        EpisodeBatchSampler(lengths, window, batch_size, rank=rank, world_size=world_size, **arguments)
        for rank in range(world_size)
    ]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    per_rank = [np.array(list(sampler)) for sampler in samplers]
    assert {len(batches) for batches in per_rank} == {len(sampler) for sampler in samplers}
    return np.concatenate(per_rank, axis=1)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("lengths", "window", "batch_size", "world_size"), CASES)
def test_every_window_once_in_one_lane_without_a_break(lengths, window, batch_size, world_size, shuffle):
    windows = Windows(lengths, window)
    for epoch in range(5):
        order = epochs(lengths, window, batch_size, world_size, epoch, shuffle=shuffle, seed=3)
        assert sorted(order[order != IDLE].tolist()) == list(range(len(windows)))
        for lane in order.T:
            played = lane[lane != IDLE].tolist()
            assert lane.tolist()[: len(played)] == played, "a lane is idle at the end of the epoch only"
            located = [windows.locate(index) for index in played]
            for (episode, _, stop), (following, start, _) in itertools.pairwise(located):
                if episode == following:
                    assert start == stop
                else:
                    assert stop == lengths[episode]
                    assert start == 0


@pytest.mark.parametrize(("lengths", "window", "batch_size", "world_size"), CASES)
def test_the_length_is_the_same_every_epoch_and_near_the_least_possible(lengths, window, batch_size, world_size):
    counts = Windows(lengths, window).counts
    lanes = batch_size * world_size
    sampler = EpisodeBatchSampler(lengths, window, batch_size, world_size=world_size)
    least = max(int(counts.max()), -(-int(counts.sum()) // lanes))
    assert least <= len(sampler) <= 4 / 3 * least + 1
    for epoch in range(20):
        assert sampler.schedule(epoch).shape == (len(sampler), batch_size)


def test_two_ranks_see_what_one_process_with_all_lanes_sees():
    lengths = np.random.default_rng(1).integers(1, 60, 50).tolist()
    for epoch in range(3):
        together = epochs(lengths, 8, 3, 2, epoch, seed=7)
        alone = epochs(lengths, 8, 6, 1, epoch, seed=7)
        np.testing.assert_array_equal(together, alone)


def test_the_order_is_a_function_of_seed_and_epoch():
    lengths = list(range(1, 40))
    one, same = (EpisodeBatchSampler(lengths, 4, 3, seed=5) for _ in range(2))
    other = EpisodeBatchSampler(lengths, 4, 3, seed=6)
    same.schedule(9)
    np.testing.assert_array_equal(one.schedule(2), same.schedule(2))
    assert not np.array_equal(one.schedule(2), one.schedule(3))
    assert not np.array_equal(one.schedule(2), other.schedule(2))


def test_iterating_consumes_nothing():
    sampler = EpisodeBatchSampler(list(range(1, 20)), 4, 3)
    iterators = [iter(sampler) for _ in range(3)]
    assert list(iterators[0]) == list(iterators[2]) == list(iterators[1]) == list(sampler)


def test_starting_in_the_middle_gives_the_rest():
    sampler = EpisodeBatchSampler(list(range(1, 20)), 4, 3)
    sampler.set_epoch(4)
    whole = list(sampler)
    sampler.set_epoch(4, position=5)
    before = iter(sampler)
    sampler.set_epoch(0)
    assert list(before) == whole[5:], "an iterator keeps the place that it was made for"
    assert len(sampler) == len(whole)


def test_without_shuffling_the_episodes_come_in_their_order():
    sampler = EpisodeBatchSampler([2, 2, 4, 2], 2, 2, shuffle=False)
    assert list(sampler) == [[0, 1], [2, 4], [3, IDLE]]


def test_episodes_change_lanes_and_company_from_epoch_to_epoch():
    lengths = np.random.default_rng(2).permutation(np.arange(20, 220)).tolist()
    windows = Windows(lengths, 10)
    sampler = EpisodeBatchSampler(lengths, 10, 8)
    lanes = []
    for epoch in range(10):
        schedule = sampler.schedule(epoch)
        lane = {windows.locate(index)[0]: row for row in range(8) for index in schedule[:, row] if index != IDLE}
        lanes.append([lane[episode] for episode in range(len(lengths))])
    together = np.mean([np.equal.outer(one, one) for one in lanes], axis=0)
    assert together[~np.eye(len(lengths), dtype=bool)].max() < 0.9


def test_a_hundred_thousand_episodes_are_scheduled_in_a_moment():
    import time

    lengths = np.random.default_rng(3).integers(1, 2000, 100_000).tolist()
    start = time.process_time()
    EpisodeBatchSampler(lengths, 128, 8, world_size=8).schedule(0)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    "arguments",
    [
        {"episode_lengths": []},
        {"episode_lengths": [3, 0, 2]},
        {"window": 0},
        {"batch_size": 0},
        {"seed": -1},
        {"rank": 2, "world_size": 2},
    ],
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(MscoreError):
        EpisodeBatchSampler(**{"episode_lengths": [3, 2], "window": 2, "batch_size": 1, **arguments})
