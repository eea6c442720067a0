"""MiniGrid's environments and the expert bot."""

import gymnasium
import numpy as np
import pytest
from mscore_plugin_minigrid import MiniGridEnvironment

from mscore import MscoreError


def play(environment, env, seed, disturb=None):
    observation, _ = env.reset(seed=seed)
    expert = environment.expert(env)
    total, terminated, truncated, info = 0.0, False, False, {}
    while not (terminated or truncated):
        action = expert(observation)
        if disturb is not None and disturb.random() < 0.2:
            action = disturb.integers(3)
        observation, reward, terminated, truncated, info = env.step(action)
        total += reward
    return environment.success(total, terminated, info)


@pytest.mark.parametrize("name", ["BabyAI-UnlockPickup-v0", "BabyAI-KeyCorridorS3R1-v0", "BabyAI-GoToLocal-v0"])
def test_the_expert_solves_levels(name):
    environment = MiniGridEnvironment(name)
    env = environment.make()
    assert all(play(environment, env, seed) for seed in range(5))


def test_the_expert_plans_again_from_what_was_really_done():
    environment = MiniGridEnvironment("BabyAI-GoToObj-v0")
    env = environment.make()
    random = np.random.default_rng(0)
    assert sum(play(environment, env, seed, disturb=random) for seed in range(10)) >= 8


def test_the_expert_works_through_other_wrappers():
    environment = MiniGridEnvironment("BabyAI-GoToObj-v0")
    env = gymnasium.wrappers.RecordEpisodeStatistics(environment.make())
    assert play(environment, env, 0)


def test_an_environment_without_instructions_has_no_expert():
    environment = MiniGridEnvironment("MiniGrid-Empty-5x5-v0")
    env = environment.make()
    env.reset(seed=0)
    with pytest.raises(MscoreError, match=r"MiniGrid-Empty-5x5-v0.*BabyAI"):
        environment.expert(env)


def test_a_bot_that_cannot_go_on_says_where():
    environment = MiniGridEnvironment("BabyAI-KeyInBox-v0")
    env = environment.make()
    with pytest.raises(MscoreError, match=r"the expert bot cannot go on in 'BabyAI-KeyInBox-v0' \(.+\)"):
        play(environment, env, 0)


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [("BabyAI-NoSuchLevel-v0", None), ("no_such_module:Level-v0", None), ("BabyAI-GoToObj-v0", {"sice": 3})],
)
def test_an_environment_that_cannot_be_made_is_named(name, kwargs):
    with pytest.raises(MscoreError, match=name):
        MiniGridEnvironment(name, kwargs).make()


def test_success_is_a_reward_at_a_true_end():
    environment = MiniGridEnvironment()
    assert environment.success(0.7, True, {})
    assert not environment.success(0.0, True, {})
    assert not environment.success(0.7, False, {})


def test_redrawn_levels_do_not_write_to_stdout(capsys):
    env = MiniGridEnvironment("BabyAI-Synth-v0").make()
    bare = gymnasium.make("BabyAI-Synth-v0")
    for seed in range(40):
        bare.reset(seed=seed)
    assert "Sampling rejected" in capsys.readouterr().out
    for seed in range(40):
        env.reset(seed=seed)
    assert capsys.readouterr().out == ""


def test_several_environments_side_by_side():
    envs = MiniGridEnvironment("BabyAI-GoToObj-v0").vector(3)
    observations, _ = envs.reset(seed=0)
    assert observations["image"].shape == (3, 7, 7, 3)
    assert len(observations["mission"]) == 3
    envs.step(np.array([2, 1, 0]))
    envs.close()


def test_it_renders():
    env = MiniGridEnvironment("BabyAI-GoToObj-v0").make(render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().ndim == 3
