"""Memory: a GRU that forgets where an episode starts."""

from typing import Any

import torch
from torch import nn


class Memory(nn.Module):
    """A GRU over a window whose state becomes zero before every frame that starts an episode.

    Args:
        size: of the input, the output and the state.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(size, size, batch_first=True)

    def forward(
        self, features: torch.Tensor, state: torch.Tensor, first: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read a window.

        Args:
            features: (B, T, size).
            state: before the window, (B, size).
            first: (B, T) bool, true where an episode starts; None for nowhere.

        Returns:
            Outputs (B, T, size) and the state after the window, (B, size).
        """
        if first is not None:
            state = state * ~first[:, :1]
            if _may_start_inside(first):
                return self._step_by_step(features, state, first)
        output, last = self.gru(features, state.to(features.dtype).unsqueeze(0))
        return output, last.squeeze(0)

    def _step_by_step(
        self, features: torch.Tensor, state: torch.Tensor, first: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        gru = self.gru
        weights: Any = (gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0)
        keep = (~first).to(features.dtype).unsqueeze(-1)
        state = state.to(features.dtype)
        outputs = []
        for step, frame in enumerate(features.unbind(1)):
            state = torch.gru_cell(frame, state * keep[:, step], *weights)
            outputs.append(state)
        return torch.stack(outputs, 1), state


def _may_start_inside(first: torch.Tensor) -> bool:
    """Whether the state may have to be reset within the window.

    Looking at the flags is free where they lie in the host's memory; elsewhere it would make the host wait
    for the device, so there the answer is yes for every window of more than one frame.
    """
    if first.shape[1] == 1:
        return False
    if first.device.type != "cpu" or torch.compiler.is_compiling():
        return True
    return bool(first[:, 1:].any())
