"""Playing demonstrations: the program that a recording process runs.

``python -m mscore_plugin_minigrid.recorder`` reads a JSON object from its standard input (``env``,
``kwargs``, ``seeds``, ``part``), plays one episode per seed with the expert, writes the successful ones to
the file ``part``, and prints ``1`` or ``0`` for each episode as it ends. It is a program of its own rather
than a function in a pool so that recording works from any script, guarded by ``__main__`` or not, and next
to threads of torch. It imports no torch: it must start fast.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import gymnasium
import numpy as np

from mscore import MscoreError
from mscore_plugin_minigrid.environment import MiniGridEnvironment

Episode = tuple[int, list[dict[str, Any]], list[int]]
"""Seed, observations and actions of one demonstration."""


def play(environment: MiniGridEnvironment, seeds: Iterable[int]) -> Iterator[Episode | None]:
    """Let the expert play one episode per seed; None stands for one that it did not solve."""
    env = environment.make()
    for seed in seeds:
        try:
            yield _play_one(environment, env, seed)
        except MscoreError:
            # The bot gave up in the middle. What it cannot play at all was refused before.
            yield None
    env.close()


def _play_one(environment: MiniGridEnvironment, env: gymnasium.Env[Any, Any], seed: int) -> Episode | None:
    observation, _ = env.reset(seed=seed)
    expert = environment.expert(env)
    observations, actions = [], []
    total, terminated, truncated = 0.0, False, False
    while not (terminated or truncated):
        action = expert(observation)
        observations.append(observation)
        actions.append(action)
        observation, reward, terminated, truncated, info = env.step(action)
        total += float(reward)
    if not environment.success(total, terminated, info):
        return None
    return seed, observations, actions


def write_part(path: str, episodes: list[Episode]) -> None:
    """Write episodes to one file: frames of all of them in a row, text as numbers into a table."""
    arrays: dict[str, Any] = {
        "seeds": np.array([seed for seed, _, _ in episodes], dtype=np.int64),
        "lengths": np.array([len(actions) for _, _, actions in episodes], dtype=np.int64),
        "agent_action": np.array([action for _, _, actions in episodes for action in actions], dtype=np.int64),
    }
    frames = [frame for _, observations, _ in episodes for frame in observations]
    for key in frames[0] if frames else ():
        values = [frame[key] for frame in frames]
        if isinstance(values[0], str):
            table, numbers = np.unique(np.array(values), return_inverse=True)
            arrays[f"text.{key}"] = table
            arrays[f"observation.{key}"] = numbers.astype(np.int32)
        else:
            arrays[f"observation.{key}"] = np.stack(values)
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def main() -> None:
    """Run one recording process."""
    job = json.load(sys.stdin)
    environment = MiniGridEnvironment(job["env"], job["kwargs"])
    # Progress has stdout to itself; whatever the environment prints goes to stderr.
    progress = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    sys.stdout = sys.stderr
    episodes = []
    for episode in play(environment, job["seeds"]):
        if episode is not None:
            episodes.append(episode)
        print(int(episode is not None), file=progress)
    write_part(job["part"], episodes)


if __name__ == "__main__":
    main()
