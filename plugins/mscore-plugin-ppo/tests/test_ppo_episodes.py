"""Returns and lengths of episodes, against adding up step by step."""

import numpy as np
from mscore_plugin_ppo.rollouts.episodes import End, EpisodeCounter
from mscore_plugin_ppo.rollouts.fragments import Episode

from mscore.testing.tiny import TinyEnvironment


def step_by_step(reward, valid, first, ended):
    """(step, row, return, length) of every episode that ends."""
    found, returns, lengths = [], np.zeros(reward.shape[1]), np.zeros(reward.shape[1], dtype=int)
    for t, row in np.ndindex(reward.shape):
        if first[t, row]:
            returns[row], lengths[row] = 0.0, 0
        returns[row] += reward[t, row]
        lengths[row] += valid[t, row]
        if ended[t, row]:
            found.append((t, row, returns[row], lengths[row]))
    return found


def test_episodes_are_counted_over_fragments_and_begin_anew_where_an_environment_was_replaced():
    random = np.random.default_rng(0)
    steps, rows, length = 60, 3, 5
    valid = random.random((steps, rows)) > 0.1
    ended = (random.random((steps, rows)) < 0.1) & valid
    first = np.ones((steps, rows), dtype=np.bool_)
    first[1:] = ended[:-1] | (valid[1:] & ~valid[:-1])
    reward = random.standard_normal((steps, rows)).astype(np.float32) * valid
    counter = EpisodeCounter(rows, TinyEnvironment())
    found = []
    for begin in range(0, steps, length):
        part = slice(begin, begin + length)
        ends = [End(int(row), int(t), True, {}) for t, row in np.argwhere(ended[part])]
        found += counter.count(reward[part], valid[part], first[part], ends)
    expected = step_by_step(reward, valid, first, ended)
    assert len(found) == len(expected) > 10
    assert any(t // length > (t - taken + 1) // length for t, _, _, taken in expected)
    for one, (_, _, total, taken) in zip(found, expected, strict=True):
        assert isinstance(one, Episode)
        np.testing.assert_allclose(one.episode_return, total, rtol=1e-5)
        assert one.length == taken
