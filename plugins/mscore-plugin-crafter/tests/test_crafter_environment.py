"""Crafter's environment, with the real game."""

import hashlib
import typing
import warnings

import gymnasium
import numpy as np
import pytest
from crafter import constants
from gymnasium.utils.env_checker import check_env
from mscore_plugin_crafter import CrafterEnvironment
from mscore_plugin_crafter.environment import Achievement

from mscore import MscoreError

SMALL = {"area": (24, 24)}
"""A world takes time to make."""


def play(env, seed, steps):
    """A hash of all that an episode shows, when it ended and how."""
    random, digest = np.random.default_rng(seed), hashlib.sha256()
    observation, info = env.reset(seed=seed)
    for _ in range(steps):
        digest.update(observation.tobytes())
        observation, _, terminated, truncated, info = env.step(random.integers(17))
        if terminated or truncated:
            break
    return digest.hexdigest(), terminated, truncated, info


def test_gymnasiums_checker_finds_nothing():
    env = CrafterEnvironment().make(render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*not have a `spec`.*|.*spec is None.*|.*render modes.*")
        check_env(env)


def test_an_episode_is_a_function_of_seed_and_actions():
    found = []
    for _ in range(2):
        kept = [object() for _ in range(1000 * len(found))]  # moves the game's objects in memory
        found.append(play(CrafterEnvironment(**SMALL, length=600).make(), 3, 600)[0])
        del kept
    assert found[0] == found[1]
    assert play(CrafterEnvironment(**SMALL, length=600).make(), 4, 600)[0] != found[0]


def test_episodes_without_a_seed_differ_and_follow_from_the_first():
    def worlds(seed):
        env = CrafterEnvironment(**SMALL).make()
        return [env.reset(seed=seed)[0].tobytes(), env.reset()[0].tobytes()]

    assert worlds(1) == worlds(1)
    assert len({*worlds(1), *worlds(2)}) == 4


def test_a_film_changes_nothing():
    def pictures(render_mode):
        env = CrafterEnvironment(**SMALL).make(render_mode=render_mode)
        env.reset(seed=0)
        env.unwrapped._game._step = 200  # at night pictures have noise
        return [(env.step(0)[0].tobytes(), env.render())[0] for _ in range(10)]

    assert pictures("rgb_array") == pictures(None)


def test_death_is_an_end_and_the_length_is_not():
    _, terminated, truncated, info = play(CrafterEnvironment(**SMALL, length=20).make(), 0, 100)
    assert (terminated, truncated) == (False, True)
    env = CrafterEnvironment(**SMALL).make()
    env.reset(seed=0)
    env.unwrapped._game._player.health = 0
    _, _, terminated, truncated, info = env.step(0)
    assert (terminated, truncated) == (True, False)
    assert info["discount"] == 0


def test_the_reward_is_for_what_is_new_and_can_be_left_out():
    for reward in (True, False):
        env = CrafterEnvironment(**SMALL, reward=reward).make()
        env.reset(seed=0)
        env.unwrapped._game._player.inventory["sapling"] = 1
        env.unwrapped._game._player.achievements["collect_sapling"] += 1
        rewards = [env.step(0)[1] for _ in range(2)]
        assert rewards == ([1.0, 0.0] if reward else [0.0, 0.0])


def test_a_success_is_to_have_reached_all_goals():
    info = {"achievements": dict.fromkeys(constants.achievements, 0) | {"collect_wood": 3}}
    assert CrafterEnvironment(**SMALL).success(5.0, True, info) is None
    assert CrafterEnvironment(goals=["collect_wood"]).success(1.0, False, info) is True
    assert CrafterEnvironment(goals=["collect_wood", "place_table"]).success(1.0, False, info) is False


def test_the_goals_that_can_be_named_are_crafters():
    assert sorted(typing.get_args(Achievement)) == sorted(constants.achievements)


def test_pictures_have_the_size_that_was_asked_for():
    env = CrafterEnvironment(size=(96, 48), view=(9, 7), area=(32, 32)).make(render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (48, 96, 3)
    assert observation in env.observation_space
    assert env.render().shape == (280, 360, 3)
    assert CrafterEnvironment(**SMALL).make().render() is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"view": (3, 3)}, "6 rows of inventory.*9 x 9"), ({"size": (16, 64)}, "16 x 64 pixels are too few")],
)
def test_what_the_game_cannot_draw_is_refused(arguments, text):
    with pytest.raises(MscoreError, match=text):
        CrafterEnvironment(**arguments)


def test_several_environments_side_by_side():
    envs = CrafterEnvironment(**SMALL, length=5).vector(2)
    observations, _ = envs.reset(seed=[0, 1])
    assert observations.shape == (2, 64, 64, 3)
    for _ in range(5):
        *_, truncated, info = envs.step(np.zeros(2, dtype=np.int64))
    assert truncated.all()
    assert set(info["final_info"]["achievements"]) >= set(constants.achievements)
    assert isinstance(envs.single_action_space, gymnasium.spaces.Discrete)
    envs.close()
