"""Records the datasets beside it with Minari's DataCollector, which needs jax: pip install "minari[all]" minigrid.

Run it in this folder: python record.py
"""

import os
from pathlib import Path

os.environ["MINARI_DATASETS_PATH"] = str(Path(__file__).parent)

import gymnasium
import minari
import minigrid  # noqa: F401  (registers the environments)
import numpy as np
from gymnasium import spaces
from minigrid.utils.baby_ai_bot import BabyAIBot
from minigrid.wrappers import ImgObsWrapper, RGBImgPartialObsWrapper

LEVEL = "BabyAI-GoToObj-v0"
MISSIONS = spaces.Dict({
    "image": spaces.Box(0, 255, (7, 7, 3), np.uint8),
    "direction": spaces.Discrete(4),
    "mission": spaces.Text(1000),
})  # fmt: skip


def record(dataset_id, env, episodes, policy, **options):
    """Play some episodes and keep them."""
    collector = minari.DataCollector(env, **options)
    random = np.random.default_rng(0)
    for seed in range(episodes):
        observation, _ = collector.reset(seed=seed)
        choose, over = policy(env, random), False
        while not over:
            observation, _, terminated, truncated, _ = collector.step(choose(observation))
            over = terminated or truncated
    collector.create_dataset(dataset_id, algorithm_name="see record.py")


def at_random(env, random):
    """Any action."""
    env.action_space.seed(int(random.integers(1000)))
    return lambda observation: env.action_space.sample()


def by_the_bot(env, random):
    """BabyAI's expert."""
    bot, actions = BabyAIBot(env), [None]

    def choose(observation):
        actions.append(int(bot.replan(actions[-1])))
        return actions[-1]

    return choose


record("cartpole/random-v0", gymnasium.make("CartPole-v1"), 8, at_random)
record("pendulum/random-v0", gymnasium.make("Pendulum-v1", max_episode_steps=20), 5, at_random, data_format="arrow")
record("minigrid/bot-v0", gymnasium.make(LEVEL), 6, by_the_bot, observation_space=MISSIONS)
pictures = ImgObsWrapper(RGBImgPartialObsWrapper(gymnasium.make(LEVEL), tile_size=5))
record("minigrid/pictures-v0", pictures, 3, by_the_bot)
