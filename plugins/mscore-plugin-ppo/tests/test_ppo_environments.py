"""Environments in the trainer's process: what they answer, their seeds, and being brought back."""

import dataclasses
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from mscore_plugin_ppo.environments.in_process import InProcessEnvironments
from mscore_plugin_ppo.environments.supervised import SupervisedEnvironments

from mscore import MscoreError, as_environment

sys.path.insert(0, str(Path(__file__).parent))  # the environments' processes import what they unpickle

from ppo_faulty import make_unsteady


class Countdown(gymnasium.Env):
    """Shows (episode's seed, step); ends by itself after ``length`` steps, or is cut off at ``limit``."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, length=5, limit=None):
        self.length, self.limit = length, limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.t = seed or 0, 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        ended = self.t >= self.length
        cut = self.limit is not None and self.t >= self.limit and not ended
        return self.observe(), float(action), ended, cut, {"success": bool(action == 2)} if ended or cut else {}

    def observe(self):
        return np.array([self.seed, self.t], dtype=np.float64)


def make(factory, num_envs=2, seed=0):
    return InProcessEnvironments(as_environment(factory), num_envs, seed)


def actions(*values):
    return np.array(values, dtype=np.int64)


def test_an_episode_that_ends_is_followed_in_the_same_step_and_its_end_is_told():
    environments = make(lambda: Countdown(length=2))
    shown = environments.reset().copy()
    seeds = shown[:, 0]
    moved = environments.step(actions(1, 2))
    assert not moved.began.any()
    assert moved.reward.tolist() == [1.0, 2.0]
    assert moved.final == {}
    moved = environments.step(actions(0, 2))
    assert moved.terminated.all()
    assert moved.began.all()
    assert moved.valid.all()
    assert not moved.truncated.any()
    final, info = moved.final[1]
    assert final.tolist() == [seeds[1], 2.0]
    assert info == {"success": True}
    assert moved.observation[:, 1].tolist() == [0.0, 0.0]
    assert not set(moved.observation[:, 0]) & set(seeds)


def test_a_time_limit_is_told_apart_from_an_end():
    environments = make(lambda: Countdown(limit=1))
    environments.reset()
    moved = environments.step(actions(0, 0))
    assert moved.truncated.all()
    assert not moved.terminated.any()


def test_episodes_have_seeds_of_their_own_that_the_runs_seed_decides():
    def seeds(seed):
        environments = make(lambda: Countdown(length=1), num_envs=3, seed=seed)
        found = [environments.reset()[:, 0].tolist()]
        found += [environments.step(actions(0, 0, 0)).observation[:, 0].tolist() for _ in range(4)]
        return [one for row in found for one in row]

    assert seeds(3) == seeds(3)
    assert len(set(seeds(3))) == 15
    assert not set(seeds(3)) & set(seeds(4))


@pytest.mark.parametrize("name", ["CartPole-v1", "MountainCarContinuous-v0"])
def test_environments_are_brought_back_to_where_they_were(name):
    environments = make(lambda: gymnasium.make(name), num_envs=3, seed=5)
    environments.reset()
    environments._vector.action_space.seed(0)
    for _ in range(40):
        environments.step(environments._vector.action_space.sample())
    saved = environments.state_dict()
    more = [environments._vector.action_space.sample() for _ in range(30)]
    expected = [
        dataclasses.replace(moved, observation=moved.observation.copy()) for moved in map(environments.step, more)
    ]
    others = make(lambda: gymnasium.make(name), num_envs=3, seed=5)
    shown = others.load_state_dict(saved)
    for one, moved in zip(more, expected, strict=True):
        again = others.step(one)
        np.testing.assert_array_equal(again.observation, moved.observation)
        np.testing.assert_array_equal(again.reward, moved.reward)
        np.testing.assert_array_equal(again.began, moved.began)
    assert shown.shape == expected[0].observation.shape


@pytest.mark.parametrize("made", [InProcessEnvironments, SupervisedEnvironments])
def test_an_environment_that_says_that_it_cannot_be_played_again_begins_anew(made):
    environments = made(as_environment(make_unsteady), 2, seed=0)
    shown = environments.reset()
    environments.step(actions(1, 1))
    saved = environments.state_dict()
    with pytest.warns(UserWarning, match="begin anew"):
        again = environments.load_state_dict(saved)
    environments.close()
    assert not np.array_equal(again, shown)


def test_an_environment_that_raises_is_named_with_its_step_and_seed():
    class Failing(Countdown):
        def step(self, action):
            if self.t == 1:
                raise ValueError("the game crashed")
            return super().step(action)

    environments = make(Failing)
    environments.reset()
    environments.step(actions(0, 0))
    with pytest.raises(
        MscoreError, match=r"Failing raised in step 1 of the episode with seed \d+: ValueError: the game"
    ):
        environments.step(actions(0, 0))


def test_a_vector_form_of_its_own_is_taken_and_must_reset_in_the_same_step():
    def factory():
        return Countdown()

    factory.vector = lambda num_envs: gymnasium.vector.SyncVectorEnv([Countdown] * num_envs)
    with pytest.raises(MscoreError, match="expected SAME_STEP"):
        make(factory)


def test_a_vector_environment_of_another_kind_steps_itself():
    class Other(gymnasium.vector.SyncVectorEnv):
        pass

    class Wrapped(gymnasium.vector.VectorWrapper):
        pass

    def factory():
        return Countdown(length=2)

    same_step = gymnasium.vector.AutoresetMode.SAME_STEP
    factory.vector = lambda num_envs: Wrapped(Other([factory] * num_envs, autoreset_mode=same_step))
    environments = make(factory)
    environments.reset()
    environments.step(actions(1, 2))
    moved = environments.step(actions(1, 2))
    assert moved.terminated.all()
    assert moved.final[1][0][1] == 2.0
    assert moved.final[1][1] == {"success": True}
    with pytest.warns(UserWarning, match="begin anew"):
        environments.load_state_dict(environments.state_dict())
