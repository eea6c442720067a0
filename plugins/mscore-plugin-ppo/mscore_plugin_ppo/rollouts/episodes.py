"""Returns and lengths of the episodes that end in fragments, also of those that began in earlier ones."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mscore import Environment
from mscore_plugin_ppo.rollouts.advantages import Flags, Floats
from mscore_plugin_ppo.rollouts.fragments import Episode


class End(NamedTuple):
    """An episode's last step."""

    row: int
    step: int
    terminated: bool
    info: dict[str, Any]


class EpisodeCounter:
    """Adds up once per fragment: at every step it would be a good part of what fast environments cost.

    Args:
        num_envs: N.
        environment: knows what a success is.
    """

    def __init__(self, num_envs: int, environment: Environment) -> None:
        self._environment = environment
        self.returns: NDArray[np.float64] = np.zeros(num_envs)
        """Of the episodes that are going on, up to the last fragment's end."""
        self.lengths: NDArray[np.int64] = np.zeros(num_envs, dtype=np.int64)

    def count(self, reward: Floats, valid: Flags, first: Flags, ends: list[End]) -> list[Episode]:
        """Take the next fragment in.

        Args:
            reward: (T, N).
            valid: (T, N), False where no step was taken.
            first: (T, N), an episode begins with the step.
            ends: of the fragment's episodes, in order.

        Returns:
            The episodes that ended.
        """
        episodes = []
        for row, step, terminated, info in ends:
            total, length = self._since_the_beginning(row, step + 1, reward, valid, first)
            episodes.append(Episode(total, length, self._environment.success(total, terminated, info)))
        for row in range(len(self.returns)):
            self.returns[row], self.lengths[row] = self._since_the_beginning(row, len(reward), reward, valid, first)
        return episodes

    def _since_the_beginning(
        self, row: int, stop: int, reward: Floats, valid: Flags, first: Flags
    ) -> tuple[float, int]:
        begins = first[:stop, row].nonzero()[0]
        start = int(begins[-1]) if begins.size else 0
        total, length = reward[start:stop, row].sum(dtype=np.float64), valid[start:stop, row].sum()
        if not begins.size:
            total, length = total + self.returns[row], length + self.lengths[row]
        return float(total), int(length)
