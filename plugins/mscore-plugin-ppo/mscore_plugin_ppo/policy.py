"""The policy ``mlp``."""

import math
from typing import Annotated, Any

import gymnasium
import torch
from annotated_types import Ge
from gymnasium import spaces
from torch import nn

from mscore import MinePolicy, MscoreError


class MLPPolicy(MinePolicy):
    """A small policy without memory for observations that are numbers, as in classic control.

    Two networks of tanh layers, one for the actions and one for the value, initialized orthogonally as is
    usual for PPO (Andrychowicz et al. 2021).

    ``latents`` holds ``pi_logits`` and ``vpred`` (B, T, 1). There is no state.

    Args:
        hiddim: width of each layer.
        layers: of each network.
        observation_space: a Box, or a Dict of Boxes (injected).
        action_space: what the policy chooses from (injected).

    Raises:
        MscoreError: for another kind of observation.
    """

    provides_latents = frozenset({"pi_logits", "vpred"})

    def __init__(
        self,
        hiddim: Annotated[int, Ge(1)] = 64,
        layers: Annotated[int, Ge(1)] = 2,
        *,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
    ) -> None:
        super().__init__(hiddim, action_space)
        self.observation_space = observation_space
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"image": observation_space}
        for name, part in parts.items():
            if not isinstance(part, spaces.Box):
                raise MscoreError(
                    f"policy 'mlp' reads numbers (Box), and the observation {name!r} is {part}; "
                    "`recurrent` reads any observation"
                )
        self._names = list(parts)
        width = sum(math.prod(part.shape) for part in parts.values() if part.shape is not None)
        self.networks = _TwinNetworks(width, hiddim, layers)
        for module in self.pi_head.modules():
            if isinstance(module, nn.Linear):
                _initialize(module, 0.01)
        _initialize(self.value_head.linear, 1.0)

    def initial_state(self, batch_size: int | None = None) -> dict[str, torch.Tensor]:
        """Nothing: there is no memory."""
        return {}

    def forward(
        self, input: dict[str, Any], state_in: dict[str, torch.Tensor] | None = None
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Read a window: numbers (B, T, …) by name, a bare space's as ``image``."""
        numbers = [_flat(input[name]) for name in self._names]
        seen = numbers[0] if len(numbers) == 1 else torch.cat(numbers, -1)
        acting, valuing = self.networks(seen.to(self.value_head.linear.weight.dtype))
        return {"pi_logits": self.pi_head(acting), "vpred": self.value_head(valuing)}, {}


class _TwinNetworks(nn.Module):
    """Two networks of tanh layers, independent of each other, computed side by side.

    One batched product per layer does what two would: at this size the number of calls is the cost.
    """

    def __init__(self, width: int, hiddim: int, layers: int) -> None:
        super().__init__()
        self.hiddim = hiddim
        for layer in range(layers):
            weight = torch.empty(2, hiddim if layer else width, hiddim)
            for matrix in weight:
                nn.init.orthogonal_(matrix, math.sqrt(2))
            self.register_parameter(f"weight_{layer}", nn.Parameter(weight))
            self.register_parameter(f"bias_{layer}", nn.Parameter(torch.zeros(2, 1, hiddim)))

    def forward(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T, width) to two times (B, T, hiddim)."""
        hidden = numbers.reshape(-1, numbers.shape[-1]).expand(2, -1, -1)
        parameters = iter(self._parameters.values())
        for weight, bias in zip(parameters, parameters, strict=True):
            assert weight is not None
            assert bias is not None
            hidden = torch.baddbmm(bias, hidden, weight).tanh()
        first, second = hidden.view(2, *numbers.shape[:2], self.hiddim).unbind()
        return first, second


def _flat(numbers: torch.Tensor) -> torch.Tensor:
    """(B, T, …) to (B, T, numbers)."""
    if numbers.dim() == 3:
        return numbers
    return numbers.unsqueeze(-1) if numbers.dim() == 2 else numbers.flatten(2)


def _initialize(layer: nn.Linear, gain: float) -> None:
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
