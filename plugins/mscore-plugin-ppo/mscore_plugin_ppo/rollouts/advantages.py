"""Generalized advantage estimation (Schulman et al. 2016), on arrays with the time first."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Steps:
    """What the estimate needs to know of T steps in N environments; all arrays are (T, N).

    Attributes:
        rewards: float32.
        values: V(observation) before each step, float32, in the returns' units.
        terminated: the step ended its episode by itself: nothing comes after it.
        truncated: the step was the last of its trajectory for another reason (a time limit, an environment
            that was lost): the value of the final observation stands for what would have come.
        final_values: V(final observation) where ``truncated``; not read elsewhere.
        valid: False where no step was taken (an environment was being replaced).
        next_values: V(observation) after the last step, (N,) float32.
    """

    rewards: Floats
    values: Floats
    terminated: Flags
    truncated: Flags
    final_values: Floats
    valid: Flags
    next_values: Floats


class GAE:
    """Estimates advantages and the returns that the value function is trained towards.

    Args:
        discount: of rewards per step.
        gae_lambda: 0 trusts the values after one step, 1 takes the rewards alone.
    """

    def __init__(self, discount: float = 0.99, gae_lambda: float = 0.95) -> None:
        self.discount = discount
        self.gae_lambda = gae_lambda

    def estimate(self, steps: Steps, following: Floats | None = None) -> tuple[Floats, Floats]:
        """Advantages and value targets of some steps.

        Args:
            steps: the steps.
            following: advantages (N,) of the steps that directly follow, where those are known; fragments
                that follow one another then give what one long fragment gives.

        Returns:
            Advantages and value targets, each (T, N) float32; 0 and the value itself where not ``valid``.
        """
        after = np.empty_like(steps.values)
        after[:-1] = steps.values[1:]
        after[-1] = steps.next_values
        ended = steps.terminated | steps.truncated
        if ended.any():
            after = np.where(steps.truncated, steps.final_values, after)
            after[steps.terminated] = 0.0
        advantages = steps.rewards + np.float32(self.discount) * after - steps.values
        kept = np.where(ended, np.float32(0.0), np.float32(self.discount * self.gae_lambda))
        if not steps.valid.all():
            advantages[~steps.valid] = 0.0
            kept[~steps.valid] = 0.0
        carried = np.zeros_like(steps.next_values) if following is None else following
        for t in range(len(advantages) - 1, -1, -1):
            advantages[t] += kept[t] * carried
            carried = advantages[t]
        return advantages, advantages + steps.values
