"""What a collector puts into fragments, held against the policy and the environment themselves."""

import gymnasium
import numpy as np
import pytest
import torch
from mscore_plugin_ppo.environments.in_process import InProcessEnvironments
from mscore_plugin_ppo.rollouts.collector import Collector
from mscore_plugin_ppo.rollouts.versions import ModelVersion, ValueScale

from mscore import as_environment
from mscore.testing.tiny import TinyPolicy

VERSION = ModelVersion("session", 3, {})


class Walk(gymnasium.Env):
    """Random observations; a step after the limit is cut off, and an action of 4 ends the episode."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), float(action), bool(action == 4 and self.t > 2), self.t >= 6, {}

    def observe(self):
        return self.np_random.standard_normal(4).astype(np.float32)


@pytest.fixture
def collector():
    torch.manual_seed(0)
    environment = as_environment(Walk)
    return Collector(TinyPolicy(), InProcessEnvironments(environment, 3, 0), environment, 16)


def test_a_fragment_read_as_one_window_gives_what_was_done_step_by_step(collector):
    collector.collect(VERSION)
    fragments = collector.collect(VERSION)
    assert fragments.first[:, 1:].any()
    batch = fragments.batch()
    latents, _ = collector.policy(batch, fragments.state)
    logp = collector.policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"])
    torch.testing.assert_close(logp, fragments.logp, atol=1e-5, rtol=0)
    values = torch.from_numpy(fragments.steps.values).T
    torch.testing.assert_close(latents["vpred"].squeeze(-1), values, atol=1e-5, rtol=0)


def test_ends_and_final_values_are_those_of_the_final_observation(collector):
    fragments = collector.collect(VERSION)
    steps = fragments.steps
    assert steps.terminated.any()
    assert steps.truncated.any()
    assert not (steps.terminated & steps.truncated).any()
    assert {(row, t) for t, row in np.argwhere(steps.truncated)} == set(fragments.final_observations)
    (row, t), final = next(iter(fragments.final_observations.items()))
    begin = max(s for s in range(t + 1) if fragments.first[row, s])
    seen = torch.cat([fragments.observation["image"][row, begin : t + 1], torch.from_numpy(final)[None]])
    first = torch.zeros(1, len(seen), dtype=torch.bool)
    first[0, 0] = True
    latents, _ = collector.policy({"image": seen[None], "first": first}, None)
    assert steps.final_values[t, row] == pytest.approx(latents["vpred"][0, -1].item(), abs=1e-5)


def test_the_next_value_is_of_the_observation_after_the_last_step(collector):
    before = collector.collect(VERSION)
    after = collector.collect(VERSION)
    np.testing.assert_allclose(before.steps.next_values, after.steps.values[0], atol=1e-5)
    torch.testing.assert_close(before.next_observation["image"][:, 0], after.observation["image"][:, 0])


def test_values_are_in_the_returns_units(collector):
    state = collector.collect(VERSION)
    scale = ValueScale(10.0, 4.0)
    torch.manual_seed(0)
    fragments = collector.collect(ModelVersion("session", 4, {}, scale))
    latents, _ = collector.policy(fragments.batch(), fragments.state)
    expected = latents["vpred"].squeeze(-1) * 4 + 10
    torch.testing.assert_close(torch.from_numpy(fragments.steps.values).T, expected, atol=1e-4, rtol=0)
    assert state.version == 3
    assert fragments.version == 4


def test_episodes_are_counted_as_they_end(collector):
    returns = np.zeros(3)
    found = []
    for _ in range(3):
        fragments = collector.collect(VERSION)
        steps = fragments.steps
        for t, row in np.ndindex(steps.rewards.shape):
            returns[row] += steps.rewards[t, row]
            if steps.terminated[t, row] or steps.truncated[t, row]:
                found.append(returns[row])
                returns[row] = 0
        assert [one.episode_return for one in fragments.episodes] == found[len(found) - len(fragments.episodes) :]
    assert all(one.success is None for one in fragments.episodes)


def test_rows_go_on_from_batch_to_batch(collector):
    one, two = collector.collect(VERSION).batch(), collector.collect(VERSION).batch()
    assert one["episode"] == two["episode"]
    assert (two["timestamp"][:, 0] == one["timestamp"][:, -1] + 1).all()


def test_a_collector_goes_on_exactly(collector):
    collector.collect(VERSION)
    saved, random = collector.state_dict(), torch.get_rng_state()
    expected = collector.collect(VERSION)
    environment = as_environment(Walk)
    other = Collector(TinyPolicy(), InProcessEnvironments(environment, 3, 0), environment, 16)
    other.policy.load_state_dict(collector.policy.state_dict())
    other.load_state_dict(saved)
    torch.set_rng_state(random)
    found = other.collect(VERSION)
    assert found.number == expected.number
    torch.testing.assert_close(found.observation, expected.observation, atol=0, rtol=0)
    torch.testing.assert_close(found.logp, expected.logp, atol=0, rtol=0)
    torch.testing.assert_close(found.first, expected.first)
    np.testing.assert_array_equal(found.steps.values, expected.steps.values)


class Nested(Walk):
    """Walk whose first part, in the order of names, is a dict of three."""

    observation_space = gymnasium.spaces.Dict(
        {
            "aim": gymnasium.spaces.Dict({name: gymnasium.spaces.Discrete(2) for name in "abc"}),
            "image": Walk.observation_space,
        }
    )

    def observe(self):
        return {"aim": dict.fromkeys("abc", 1), "image": super().observe()}


def test_observations_may_be_nested():
    environment = as_environment(Nested)
    made = Collector(TinyPolicy(), InProcessEnvironments(environment, 2, 0), environment, 8)
    fragments = made.collect(VERSION)
    assert fragments.observation["aim"]["c"].shape == (2, 8)
    assert fragments.steps.next_values.shape == (2,)
