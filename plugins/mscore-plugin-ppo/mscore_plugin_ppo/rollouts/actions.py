"""Actions on their way from a policy to environments that are stepped together."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces


def to_environments(action: Any, space: gymnasium.Space[Any]) -> Any:
    """A batch of actions (N, 1, …) as gymnasium's vector environments take it.

    Continuous actions are clipped to the space's bounds: a Gaussian may sample beyond them.

    Args:
        action: a nest of tensors.
        space: of one environment's actions.
    """
    if isinstance(space, spaces.Dict):
        return {key: to_environments(action[key], part) for key, part in space.spaces.items()}
    assert isinstance(action, torch.Tensor)
    array = action[:, 0].cpu().numpy()
    if isinstance(space, spaces.Box):
        array = np.clip(array, space.low, space.high)
    return array.astype(space.dtype, copy=False)
