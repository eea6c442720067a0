"""What environments side by side answer to their actions, and what whoever steps them can rely on."""

from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray


@dataclass
class Transition:
    """One step of N environments, with what follows an episode's end already begun (SAME_STEP).

    Attributes:
        observation: what the environments show now, as gymnasium's vector environments shape it.
        reward: (N,) float32.
        terminated: (N,) bool.
        truncated: (N,) bool.
        began: (N,) bool, ``observation`` is the first of an episode.
        valid: (N,) bool, False where no step was taken.
        final: of the rows whose episode ended, the last observation and the last info.
    """

    observation: Any
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    began: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    final: dict[int, tuple[Any, dict[str, Any]]]


class Environments(Protocol):
    """N environments that are stepped together."""

    num_envs: int
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]

    def reset(self) -> Any:
        """Begin an episode in each; what they show."""
        ...

    def step(self, actions: Any) -> Transition:
        """Act in each: a batch of actions as gymnasium's vector environments take it."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Where they are, as plain data and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Bring them to where they were; what they show then."""
        ...

    def health(self) -> dict[str, int]:
        """How often something went wrong, by what."""
        ...

    def close(self) -> None:
        """End them."""
        ...
