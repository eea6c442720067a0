"""The history of an environment's episode: enough to bring a new environment to the same point."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from mscore_plugin_ppo.rollouts.observations import nest, parts


def can_be_replayed(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether an environment is a function of seed and actions, as far as its spec says."""
    return env.spec is None or not env.spec.nondeterministic


class EpisodeHistory:
    """Seed and actions of the episode that an environment is in.

    Every episode has a seed of its own, a function of the run's seed, the environment's index and the
    episode's number. An environment that is a function of seed and actions can so be brought back to where
    it was, which is how a run goes on exactly.

    Args:
        seed: the run's.
        index: of the environment.
        action_space: of the environment.
    """

    def __init__(self, seed: int, index: int, action_space: gymnasium.Space[Any]) -> None:
        self._entropy = (seed, index)
        self._space = action_space
        self.episode = -1
        self.seed = 0
        self.actions: list[Any] = []

    def begin(self) -> int:
        """The next episode begins; the seed to reset the environment with."""
        self.episode += 1
        self.actions.clear()
        self.seed = self._seed_of(self.episode)
        return self.seed

    @property
    def following(self) -> int:
        """The seed of the episode after this one."""
        return self._seed_of(self.episode + 1)

    def _seed_of(self, episode: int) -> int:
        # 31 bits: some environments take no more.
        return int(np.random.SeedSequence((*self._entropy, episode)).generate_state(1)[0] >> 1)

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors for a checkpoint."""
        columns = [
            torch.from_numpy(np.stack([np.asarray(_at(action, path)) for action in self.actions]))
            for path, _ in (parts(self._space) if self.actions else ())
        ]
        return {"episode": self.episode, "actions": columns}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.episode, columns = state["episode"], state["actions"]
        self.seed = self._seed_of(self.episode)
        steps = len(columns[0]) if columns else 0
        leaves = [part for _, part in parts(self._space)]
        self.actions = []
        for step in range(steps):
            values = iter([_action(part, column[step]) for part, column in zip(leaves, columns, strict=True)])
            self.actions.append(nest(self._space, lambda values=values: next(values)))  # type: ignore[misc]


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def _action(space: gymnasium.Space[Any], value: torch.Tensor) -> Any:
    return space.dtype.type(value.item()) if isinstance(space, spaces.Discrete) else value.numpy()
