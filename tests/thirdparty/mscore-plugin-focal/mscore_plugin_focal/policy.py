"""A policy of two layers, without memory."""

import math
from typing import Annotated, Any

import gymnasium
import torch
from annotated_types import Ge
from torch import nn

from mscore import MinePolicy, MscoreError


class TinyMLP(MinePolicy):
    """Two hidden layers over a flat observation, and the heads of :class:`mscore.MinePolicy`.

    Args:
        hiddim: width of the layers.
        observation_space: a Box (injected); a bare one is called ``image`` in batches.
        action_space: any space that has a head (injected).

    Raises:
        MscoreError: for an observation space that is not a Box.
    """

    provides_latents = frozenset({"pi_logits", "vpred"})

    def __init__(
        self,
        hiddim: Annotated[int, Ge(1)] = 64,
        *,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
    ) -> None:
        super().__init__(hiddim, action_space)
        if not isinstance(observation_space, gymnasium.spaces.Box):
            raise MscoreError(f"tiny-mlp reads a Box, not {observation_space}")
        size = math.prod(observation_space.shape)
        self.layers = nn.Sequential(nn.Linear(size, hiddim), nn.GELU(), nn.Linear(hiddim, hiddim), nn.GELU())

    def initial_state(self, batch_size: int | None = None) -> list[torch.Tensor]:
        """No memory: a state without tensors."""
        return []

    def forward(
        self, input: dict[str, Any], state_in: list[torch.Tensor] | None = None
    ) -> tuple[dict[str, Any], list[torch.Tensor]]:
        """Read ``image`` (B, T, …) and return ``pi_logits`` and ``vpred`` (B, T, 1)."""
        latent = self.layers(input["image"].flatten(2).float())
        return {"pi_logits": self.pi_head(latent), "vpred": self.value_head(latent)}, []
