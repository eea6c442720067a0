"""Rollouts: each seed once, whatever the number of environments; nothing else is disturbed."""

import random
import time
from dataclasses import asdict

import gymnasium
import numpy as np
import pytest
import torch

from mscore.contracts.environment import CallableEnvironment, GymnasiumEnvironment
from mscore.errors import MscoreError
from mscore.evaluation import EpisodeResult, rollout
from mscore.evaluation.rollouts import RenderError


@pytest.mark.parametrize("num_envs", [1, 3, 8, 50])
def test_results_do_not_depend_on_the_number_of_environments(walker, corridor, num_envs):
    expected = [rollout(walker, corridor, episodes=1, seed=40 + i, num_envs=1)[0] for i in range(20)]
    results = rollout(walker, corridor, episodes=20, seed=40, num_envs=num_envs)
    # Sums are rounded otherwise in batches of another size, which continuous actions show.
    assert [asdict(result) for result in results] == [
        {**asdict(result), "episode_return": pytest.approx(result.episode_return, rel=1e-5)} for result in expected
    ]
    assert len({result.length for result in expected}) > 5  # rows end at different times


def test_cartpole(make_policy):
    environment = GymnasiumEnvironment("CartPole-v1")
    env = environment.make()
    torch.manual_seed(0)
    policy = make_policy(env.observation_space, env.action_space)
    one = rollout(policy, environment, episodes=12, seed=7, num_envs=1)
    assert rollout(policy, environment, episodes=12, seed=7, num_envs=8) == one
    assert [result.seed for result in one] == list(range(7, 19))
    assert all(result.episode_return == result.length and result.success is None for result in one)


def test_a_manual_episode_agrees(walker, corridor):
    [result] = rollout(walker, corridor, episodes=1, seed=5)
    env = corridor.make()
    observation, _ = env.reset(seed=5)
    state, total, length, done = None, 0.0, 0, False
    walker.eval()
    while not done:
        observation["place"] = observation["place"].astype(np.float32)
        action, state = walker.get_action(
            {**observation, "first": length == 0}, state, deterministic=True, input_shape="*"
        )
        push = np.clip(action["push"].numpy(), -1, 1)
        observation, reward, terminated, truncated, info = env.step(
            {"push": push, "buttons": action["buttons"].numpy()}
        )
        total, length, done = total + reward, length + 1, terminated or truncated
    assert result == EpisodeResult(5, pytest.approx(total), length, terminated, info["success"])


def test_one_policy_call_serves_all_environments(walker, corridor):
    results = rollout(walker, corridor, episodes=8, seed=0, num_envs=8)
    assert walker.calls == max(result.length for result in results)


def test_sampling_is_seeded(walker, corridor):
    first, again, other = (rollout(walker, corridor, episodes=10, seed=seed, deterministic=False) for seed in (3, 3, 4))
    assert first == again
    assert first[1:] != other[:-1]
    assert first != rollout(walker, corridor, episodes=10, seed=3)


@pytest.mark.parametrize("deterministic", [True, False])
def test_random_states_and_modes_come_back(walker, corridor, deterministic):
    walker.train()
    walker.dropout.eval()
    modes = [module.training for module in walker.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    rollout(walker, corridor, episodes=3, seed=0, deterministic=deterministic)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()
    assert [module.training for module in walker.modules()] == modes


def test_a_small_policy_plays_on_one_thread(walker, corridor):
    torch.set_num_threads(2)
    threads = []
    rollout(walker, corridor, episodes=2, seed=0, progress=lambda result: threads.append(torch.get_num_threads()))
    assert threads == [1, 1]
    assert torch.get_num_threads() == 2


def test_lower_precision(walker, corridor):
    assert len(rollout(walker.to(torch.bfloat16), corridor, episodes=4, seed=0)) == 4


def test_progress_and_closing(walker, corridor, corridors_made):
    seen = []
    results = rollout(walker, corridor, episodes=7, seed=0, num_envs=3, progress=seen.append)
    assert sorted(seen, key=lambda result: result.seed) == results
    assert len(corridors_made) == 3
    assert all(env.closed for env in corridors_made)


def test_an_environment_that_raises_is_named_with_its_seed(walker, corridor, corridors_made, monkeypatch):
    step = type(corridor.make()).step

    def failing(self, action):
        if self.steps == 3:
            raise RuntimeError("the ice broke")
        return step(self, action)

    monkeypatch.setattr(type(corridor.make()), "step", failing)
    state = torch.get_rng_state()
    walker.train()
    corridors_made.clear()
    with pytest.raises(MscoreError, match=r"Corridor raised in step 3 of the episode with seed 11: .*the ice broke"):
        rollout(walker, corridor, episodes=4, seed=11, num_envs=2)
    assert all(env.closed for env in corridors_made)
    assert walker.training
    assert torch.equal(state, torch.get_rng_state())


def test_an_environment_that_cannot_be_made_or_reset(walker):
    def broken():
        raise OSError("no display")

    with pytest.raises(MscoreError, match=r"could not make an environment: OSError: no display"):
        rollout(walker, CallableEnvironment(broken), episodes=1, seed=0)

    class Stuck(gymnasium.Env):
        def reset(self, *, seed=None, options=None):
            raise OSError("no world")

    with pytest.raises(MscoreError, match=r"Stuck raised in reset\(seed=9\): OSError: no world"):
        rollout(walker, CallableEnvironment(Stuck), episodes=1, seed=9)


def test_another_action_space_is_refused(walker):
    with pytest.raises(MscoreError, match="CartPole-v1 expects Discrete"):
        rollout(walker, GymnasiumEnvironment("CartPole-v1"), episodes=1, seed=0)


def test_frames_of_an_environment_that_cannot_render(make_policy):
    class Blind(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, np.float32), {}

        def render(self):
            return None

    class Nothing:
        def episode_start(self, seed, frames_per_second): ...

    policy = make_policy(Blind.observation_space, Blind.action_space)
    with pytest.raises(RenderError, match="Blind cannot render"):
        rollout(policy, CallableEnvironment(Blind), episodes=1, seed=0, frames=Nothing())


@pytest.mark.parametrize(("episodes", "num_envs"), [(0, 1), (1, 0)])
def test_nothing_to_do_is_a_mistake(walker, corridor, episodes, num_envs):
    with pytest.raises(ValueError, match="at least 1"):
        rollout(walker, corridor, episodes=episodes, seed=0, num_envs=num_envs)


def test_speed_in_a_grid(make_policy):
    """Loose, as other processes may share the machine: at rest it is above 4,000 on one core."""
    pytest.importorskip("minigrid")
    environment = GymnasiumEnvironment("BabyAI-UnlockPickup-v0")
    env = environment.make()
    policy = make_policy(env.observation_space, env.action_space)
    began = time.process_time()
    results = rollout(policy, environment, episodes=32, seed=0)
    assert sum(result.length for result in results) / (time.process_time() - began) > 1_000
