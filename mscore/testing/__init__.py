"""For tests of mscore and of plugins: a policy and batches small enough to check by hand."""

from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from torch import nn

from mscore.contracts.policy import MinePolicy, State

__all__ = ["TinyPolicy", "tiny_batch"]


class TinyPolicy(MinePolicy):
    """A policy with a running sum as memory, over observations called ``image`` (B, T, 4) float32.

    Args:
        action_space: any space that the heads support; Discrete(5) by default.
        hiddim: width of the latent.
    """

    provides_latents = frozenset({"pi_logits", "vpred"})

    def __init__(self, action_space: gymnasium.Space[Any] | None = None, hiddim: int = 8) -> None:
        super().__init__(hiddim, spaces.Discrete(5) if action_space is None else action_space)
        self.encoder = nn.Linear(4, hiddim)

    def initial_state(self, batch_size: int | None = None) -> State:
        """A zero sum: (batch_size, hiddim)."""
        shape = (self.hiddim,) if batch_size is None else (batch_size, self.hiddim)
        return {"sum": torch.zeros(shape, device=self.device)}

    def forward(self, input: dict[str, Any], state_in: State = None) -> tuple[dict[str, Any], State]:
        """Add up the encoded observations since the last ``first``, at half weight per step."""
        encoded = torch.tanh(self.encoder(input["image"]))
        total = (self.initial_state(len(encoded)) if state_in is None else state_in)["sum"]
        kept = torch.logical_not(input["first"]).to(encoded.dtype).unsqueeze(-1)
        latents = []
        for t in range(encoded.shape[1]):
            total = 0.5 * total * kept[:, t] + encoded[:, t]
            latents.append(total)
        latent = torch.stack(latents, dim=1)
        return {"pi_logits": self.pi_head(latent), "vpred": self.value_head(latent)}, {"sum": total}


def tiny_batch(
    batch_size: int = 3,
    length: int = 4,
    action_space: gymnasium.Space[Any] | None = None,
    seed: int = 0,
    start: int = 0,
) -> dict[str, Any]:
    """A batch that :class:`TinyPolicy` reads: one window of each of ``batch_size`` episodes.

    Args:
        batch_size: number of rows B.
        length: window length T.
        action_space: space of ``agent_action``; Discrete(5) by default.
        seed: of observations and actions.
        start: timestamp of the first step; 0 begins the episodes.
    """
    space = spaces.Discrete(5) if action_space is None else action_space
    space.seed(seed)
    rows = [[space.sample() for _ in range(length)] for _ in range(batch_size)]
    first = torch.zeros(batch_size, length, dtype=torch.bool)
    first[:, 0] = start == 0
    return {
        "image": torch.randn(batch_size, length, 4, generator=torch.Generator().manual_seed(seed)),
        "agent_action": _stack(rows),
        "mask": torch.ones(batch_size, length, dtype=torch.bool),
        "first": first,
        "timestamp": torch.arange(start, start + length).repeat(batch_size, 1),
        "episode": [f"episode-{row}" for row in range(batch_size)],
    }


def _stack(rows: list[list[Any]]) -> Any:
    if isinstance(rows[0][0], dict):
        return {key: _stack([[step[key] for step in row] for row in rows]) for key in rows[0][0]}
    return torch.stack([torch.stack([torch.as_tensor(step) for step in row]) for row in rows])
