"""The recurrent transformer: blocks of attention with memory, and what they carry from window to window."""

from typing import Literal

import torch
from torch import nn

from mscore import MscoreError
from mscore_plugin_vpt.attention import RelativeAttention, Visibility, see
from mscore_plugin_vpt.layers import FanInInitReLULayer, FiLM, run

RecurrentState = list[torch.Tensor]
"""For each block ``memory_ok`` (B, 1, maxlen) bool, keys and values (B, maxlen, hidsize): a flat list."""

_PER_BLOCK = 3


class ResidualRecurrentBlock(nn.Module):
    """Attention and a perceptron: ``y = n + attention(n)`` with ``n = LN(x)``, then ``y + mlp(y)``.

    The skip connection leads around the attention alone, behind the normalization: VPT's blocks do
    not hand on x itself. Arguments as of :class:`ResidualRecurrentBlocks`.
    """

    def __init__(
        self,
        hidsize: int,
        maxlen: int,
        init_scale: float,
        attention_heads: int,
        is_residual: bool,
        use_pointwise_layer: bool,
        pointwise_ratio: int,
        pointwise_use_activation: bool,
        inject_condition: bool,
    ) -> None:
        super().__init__()
        self.is_residual = is_residual
        self.mlp0: FanInInitReLULayer | None = None
        self.mlp1: FanInInitReLULayer | None = None
        if use_pointwise_layer:
            init_scale *= 2**-0.5 if is_residual else 1.0
            wide = hidsize * pointwise_ratio
            self.mlp0 = FanInInitReLULayer(hidsize, wide, layer_type="linear", layer_norm=True)
            self.mlp1 = FanInInitReLULayer(
                wide, hidsize, layer_type="linear", init_scale=init_scale, use_activation=pointwise_use_activation
            )
        self.pre_r_ln = nn.LayerNorm(hidsize)
        self.r = nn.ModuleDict({"orc_block": RelativeAttention(hidsize, attention_heads, maxlen, init_scale)})
        self.injection = FiLM(hidsize) if inject_condition else None

    def forward(
        self,
        x: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        visibility: Visibility | None,
        condition: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B * T, hidsize), with the memory's keys and values (B, maxlen, hidsize), to the same."""
        normalized = run(self.pre_r_ln, x)
        if self.injection is not None:
            normalized = self.injection(normalized, condition)
        attended, keys, values = self.r["orc_block"](normalized, keys, values, visibility)
        x = normalized + attended
        if self.mlp0 is not None and self.mlp1 is not None:
            branch = self.mlp1(self.mlp0(x))
            x = x + branch if self.is_residual else branch
        return x, keys, values


class ResidualRecurrentBlocks(nn.Module):
    """VPT's recurrent transformer, for every policy to build on.

    A frame sees the last ``attention_memory_size - timesteps`` frames of its episode, itself included,
    whatever the lengths of the windows in which they came. Where ``first`` is true, a row forgets what lies
    before, anywhere in the window.

    Args:
        hidsize: width of input and output.
        timesteps: length of the training windows. It only says, with ``attention_memory_size``, how long
            the memory is: windows of any length can be read.
        attention_memory_size: frames of memory and window together.
        n_block: number of blocks.
        attention_heads: heads of each block; must divide ``hidsize``.
        recurrence_type: ``"transformer"``.
        is_residual: add the perceptron's output to its input.
        use_pointwise_layer: have the perceptron.
        pointwise_ratio: its width, in units of ``hidsize``.
        pointwise_use_activation: apply a ReLU to its output.
        attention_mask_style: ``"clipped_causal"``; ``"none"`` lets every frame see the whole window and the
            whole memory, whose unused slots are zero, and knows no ``first``.
        inject_condition: modulate every block's input by a condition (:class:`FiLM`).

    Raises:
        MscoreError: the sizes do not fit, or a style is unknown.

    Source: ``ResidualRecurrentBlocks`` of VPT (Baker et al. 2022), conditions as in MineStudio's ROCKET-1.
    """

    def __init__(
        self,
        hidsize: int,
        timesteps: int,
        attention_memory_size: int,
        n_block: int = 2,
        attention_heads: int = 8,
        recurrence_type: str = "transformer",
        is_residual: bool = True,
        use_pointwise_layer: bool = True,
        pointwise_ratio: int = 4,
        pointwise_use_activation: bool = False,
        attention_mask_style: Literal["clipped_causal", "none"] | str = "clipped_causal",
        inject_condition: bool = False,
    ) -> None:
        super().__init__()
        if recurrence_type != "transformer":
            raise MscoreError(f"recurrence_type is {recurrence_type!r}, and only 'transformer' is supported")
        if attention_mask_style not in ("clipped_causal", "none"):
            raise MscoreError(f"attention_mask_style is {attention_mask_style!r}, expected 'clipped_causal' or 'none'")
        if hidsize % attention_heads:
            raise MscoreError(f"{attention_heads} attention heads do not divide a width of {hidsize}")
        self.maxlen = attention_memory_size - timesteps
        if self.maxlen < 1:
            raise MscoreError(
                f"attention_memory_size ({attention_memory_size}) must be more than timesteps ({timesteps}): the "
                "difference is the number of frames that are remembered"
            )
        self.hidsize = hidsize
        self.heads = attention_heads
        self.sees_everything = attention_mask_style == "none"
        self.blocks = nn.ModuleList(
            ResidualRecurrentBlock(
                hidsize,
                self.maxlen,
                init_scale=n_block**-0.5 if is_residual else 1.0,
                attention_heads=attention_heads,
                is_residual=is_residual,
                use_pointwise_layer=use_pointwise_layer,
                pointwise_ratio=pointwise_ratio,
                pointwise_use_activation=pointwise_use_activation,
                inject_condition=inject_condition,
            )
            for _ in range(n_block)
        )

    def initial_state(self, batch_size: int | None = None) -> RecurrentState:
        """Memory of nothing, on the device and in the dtype of the weights; None leaves the batch dimension out."""
        rows = () if batch_size is None else (batch_size,)
        weight = next(self.parameters())
        state = []
        for _ in self.blocks:
            state.append(torch.zeros(*rows, 1, self.maxlen, dtype=torch.bool, device=weight.device))
            state += [weight.new_zeros(*rows, self.maxlen, self.hidsize) for _ in range(2)]
        return state

    def forward(
        self,
        x: torch.Tensor,
        first: torch.Tensor | None,
        state: RecurrentState,
        ce_latent: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, RecurrentState]:
        """Read a window.

        Args:
            x: (B, T, hidsize), of any B and T.
            first: (B, T) bool, true where an episode starts; None for nowhere.
            state: memory before the window, a flat list of three tensors for each block. ``memory_ok`` is
                the same for all blocks, and read from the first.
            ce_latent: condition of each frame, (B, T, hidsize), where conditions are injected.

        Returns:
            (B, T, hidsize) and the memory after the window.

        Raises:
            MscoreError: the state is of other blocks.
        """
        if len(state) != _PER_BLOCK * len(self.blocks):
            raise MscoreError(
                f"the state has {len(state)} tensors, expected {_PER_BLOCK} for each of {len(self.blocks)} blocks: "
                "it is not a state of this policy"
            )
        visibility = None
        if not self.sees_everything:
            visibility = see(state[0], first, x.shape[1], self.heads, x.dtype)
        after: RecurrentState = []
        shape, x = x.shape, x.flatten(0, 1)
        ce_latent = None if ce_latent is None else ce_latent.flatten(0, 1)
        for block, (ok, keys, values) in zip(self.blocks, _by_block(state), strict=True):
            x, keys, values = block(x, keys, values, visibility, ce_latent)
            after += [ok if visibility is None else visibility.memory_ok, keys, values]
        return x.view(shape), after


def _by_block(state: RecurrentState) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    return [(state[i], state[i + 1], state[i + 2]) for i in range(0, len(state), _PER_BLOCK)]
