"""From what is seen and wanted to the latents that the heads read."""

import torch
import torch.nn.functional as F
from mscore_plugin_vpt import FanInInitReLULayer, ResidualRecurrentBlocks
from torch import nn


class Decoder(nn.Module):
    """A transformer with memory and a last layer. Keys: ``recurrent.*``, ``lastlayer.*``, ``final_ln.*``.

    Args:
        hiddim: width of input and output.
        num_heads: attention heads; must divide ``hiddim``.
        num_layers: blocks of the transformer.
        timesteps: length of the training windows; windows of any length are read.
        mem_len: how many frames are remembered.
    """

    def __init__(
        self, hiddim: int, num_heads: int = 8, num_layers: int = 4, timesteps: int = 128, mem_len: int = 128
    ) -> None:
        super().__init__()
        self.timesteps = timesteps
        self.recurrent = ResidualRecurrentBlocks(
            hiddim,
            timesteps=timesteps,
            attention_memory_size=mem_len + timesteps,
            n_block=num_layers,
            attention_heads=num_heads,
        )
        self.lastlayer = FanInInitReLULayer(hiddim, hiddim, layer_type="linear", layer_norm=True)
        self.final_ln = nn.LayerNorm(hiddim)

    def forward(
        self, x: torch.Tensor, first: torch.Tensor | None, state: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Inputs (B, T, hiddim), ``first`` (B, T) and memory to outputs of that shape and the memory after."""
        x, state = self.recurrent(x, first, state)
        return self.final_ln(self.lastlayer(F.relu(x))), state
