"""Advantages against closed forms, a plain loop, and cut fragments."""

import time
from pathlib import Path

import numpy as np
import pytest
from mscore_plugin_ppo.rollouts.advantages import GAE, Steps


def random_steps(length, rows, seed=0, ends=0.1):
    random = np.random.default_rng(seed)
    terminated = random.random((length, rows)) < ends
    return Steps(
        rewards=random.standard_normal((length, rows)).astype(np.float32),
        values=random.standard_normal((length, rows)).astype(np.float32),
        terminated=terminated,
        truncated=(random.random((length, rows)) < ends) & ~terminated,
        final_values=random.standard_normal((length, rows)).astype(np.float32),
        valid=np.ones((length, rows), dtype=np.bool_),
        next_values=random.standard_normal(rows).astype(np.float32),
    )


def by_definition(steps, discount, gae_lambda):
    """The sum of discounted errors of one trajectory at a time, in float64, from the definition."""
    length, rows = steps.rewards.shape
    advantages = np.zeros((length, rows))
    for row in range(rows):
        for begin in range(length):
            weight = 1.0
            for t in range(begin, length):
                after = steps.next_values[row] if t == length - 1 else steps.values[t + 1, row]
                if steps.terminated[t, row]:
                    after = 0.0
                elif steps.truncated[t, row]:
                    after = steps.final_values[t, row]
                error = steps.rewards[t, row] + discount * float(after) - steps.values[t, row]
                advantages[begin, row] += weight * error
                if steps.terminated[t, row] or steps.truncated[t, row]:
                    break
                weight *= discount * gae_lambda
    return advantages


@pytest.mark.parametrize("discount", [0.0, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("gae_lambda", [0.0, 0.8, 0.95, 1.0])
def test_the_estimate_is_the_definition(discount, gae_lambda):
    steps = random_steps(17, 5)
    advantages, targets = GAE(discount, gae_lambda).estimate(steps)
    assert advantages.dtype == targets.dtype == np.float32
    np.testing.assert_allclose(advantages, by_definition(steps, discount, gae_lambda), atol=1e-5)
    np.testing.assert_allclose(targets, advantages + steps.values, atol=1e-6)


def test_the_estimate_is_stable_baselines3s():
    golden = np.load(Path(__file__).parent / "golden" / "gae_sb3.npz")
    none = np.zeros_like(golden["ended"])
    steps = Steps(
        rewards=golden["rewards"],
        values=golden["values"],
        terminated=golden["ended"],
        truncated=none,
        final_values=np.zeros_like(golden["values"]),
        valid=~none,
        next_values=golden["next_values"],
    )
    advantages, targets = GAE(0.98, 0.9).estimate(steps)
    np.testing.assert_allclose(advantages, golden["advantages"], atol=1e-5)
    np.testing.assert_allclose(targets, golden["returns"], atol=1e-5)


def test_constant_values_give_the_closed_form():
    """Reward 1, value v everywhere, an episode that ends after T steps: a geometric series."""
    length, discount, gae_lambda, value = 10, 0.9, 0.7, 2.5
    ones = np.ones((length, 1), dtype=np.float32)
    ended = np.zeros((length, 1), dtype=np.bool_)
    ended[-1] = True
    none = np.zeros_like(ended)
    steps = Steps(ones, ones * value, ended, none, ones * 0, ~none, np.float32([99.0]))
    advantages, _ = GAE(discount, gae_lambda).estimate(steps)
    kept, inside = discount * gae_lambda, 1 + discount * value - value
    expected = [
        inside * (1 - kept ** (length - 1 - t)) / (1 - kept) + kept ** (length - 1 - t) * (1 - value)
        for t in range(length)
    ]
    np.testing.assert_allclose(advantages[:, 0], expected, rtol=1e-5)


def test_a_truncated_episode_goes_on_in_its_final_value_and_a_terminated_one_does_not():
    one, no = np.ones((1, 1), dtype=np.float32), np.zeros((1, 1), dtype=np.bool_)
    gae = GAE(0.5, 0.95)
    cut, _ = gae.estimate(Steps(one, one, no, ~no, one * 10, ~no, np.float32([77])))
    ended, _ = gae.estimate(Steps(one, one, ~no, no, one * 10, ~no, np.float32([77])))
    assert cut.item() == pytest.approx(1 + 0.5 * 10 - 1)
    assert ended.item() == pytest.approx(1 - 1)


def part(steps, start, stop, following):
    fields = {name: getattr(steps, name)[start:stop] for name in Steps.__dataclass_fields__ if name != "next_values"}
    return Steps(**fields, next_values=following)


def test_fragments_that_follow_one_another_give_what_one_long_fragment_gives():
    steps = random_steps(24, 6)
    gae = GAE(0.97, 0.9)
    whole, _ = gae.estimate(steps)
    last, _ = gae.estimate(part(steps, 16, 24, steps.next_values))
    middle, _ = gae.estimate(part(steps, 8, 16, steps.values[16]), last[0])
    begin, _ = gae.estimate(part(steps, 0, 8, steps.values[8]), middle[0])
    np.testing.assert_array_equal(np.concatenate([begin, middle, last]), whole)


def test_rows_do_not_depend_on_one_another():
    steps = random_steps(12, 8)
    order = np.random.default_rng(1).permutation(8)
    permuted = Steps(**{name: getattr(steps, name)[..., order] for name in Steps.__dataclass_fields__})
    gae = GAE()
    np.testing.assert_array_equal(gae.estimate(permuted)[0], gae.estimate(steps)[0][:, order])


def test_a_step_that_was_not_taken_cuts_its_trajectory_at_the_value_of_what_was_seen():
    steps = random_steps(6, 1, ends=0.0)
    steps.valid[3] = False
    advantages, targets = GAE(0.9, 0.8).estimate(steps)
    assert advantages[3] == 0
    assert targets[3] == steps.values[3]
    expected = steps.rewards[2] + np.float32(0.9) * steps.values[3] - steps.values[2]
    np.testing.assert_allclose(advantages[2], expected, rtol=1e-5)


def test_many_rows_take_half_a_millisecond_at_most():
    steps = random_steps(128, 256, ends=0.01)
    gae = GAE()
    times = []
    for _ in range(30):
        began = time.process_time()
        gae.estimate(steps)
        times.append(time.process_time() - began)
    assert min(times) < 0.0005
