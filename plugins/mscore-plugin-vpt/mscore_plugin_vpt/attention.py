"""Attention over the last frames of an episode, with learned weights for distances in time.

A query at frame i of a window sees the ``maxlen`` frames up to itself, those of the memory included, as
far as they belong to its episode. The memory holds the keys and values of the ``maxlen`` frames before
the window. What is visible depends on the episodes alone, so it is computed once for all blocks.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from mscore_plugin_vpt.layers import run, scale_filters

BASIS_FUNCTIONS = 10
"""Number of functions of distance that a head can combine."""

HIDDEN = float("-inf")
"""Logit of a frame that a query must not see."""


class Visibility(NamedTuple):
    """What the queries of a window see; the same for every block."""

    bias: torch.Tensor
    """0 where a query sees and -inf where it does not: (B * heads * T, maxlen), by distance, the farthest
    (``maxlen`` - 1 frames before the query) first and the query's own frame last."""
    memory_ok: torch.Tensor
    """(B, 1, maxlen) bool: which frames of the memory after the window belong to the last frame's episode."""


def see(memory_ok: torch.Tensor, first: torch.Tensor | None, length: int, heads: int, dtype: torch.dtype) -> Visibility:
    """What the queries of a window see.

    Args:
        memory_ok: (B, 1, maxlen) bool, which frames of the memory belong to the episode before the window.
        first: (B, T) bool, true where an episode starts; None for nowhere.
        length: T.
        heads: number of heads.
        dtype: of the bias.
    """
    batch, _, maxlen = memory_ok.shape
    if length == 1:
        # The window's one query and the memory after it see the same frames.
        before = memory_ok.narrow(2, 1, maxlen - 1)
        visible = F.pad(before if first is None else before & ~first.unsqueeze(1), (0, 1), value=True)
        after = visible
    else:
        # Frames of one episode have one number: 0 goes on from before, and what is not ok has none.
        known = memory_ok.squeeze(1).long() - 1
        episode = known.new_zeros(batch, length) if first is None else first.long().cumsum(1)
        of_frame = torch.cat([known[:, 1:], episode], dim=1)
        visible = of_frame.unfold(1, maxlen, 1) == episode.unsqueeze(-1)
        after = visible[:, -1:]
    bias = visible.to(dtype).log()
    return Visibility(bias.unsqueeze(1).expand(-1, heads, -1, -1).reshape(-1, maxlen), after)


def by_distance_to_by_frame(by_distance: torch.Tensor, fill: float) -> torch.Tensor:
    """Move values that lie by distance to where the frames lie: row i goes i places to the right.

    Args:
        by_distance: (N, T, maxlen), the farthest frame first.
        fill: value of frames that are not within ``maxlen``.

    Returns:
        (N, T, maxlen + T - 1); frame 0 is the second of the memory, as the first is too far for any query.
    """
    count, length, maxlen = by_distance.shape
    if length == 1:
        return by_distance
    # Rows that are one place too long, read as rows of the right length, move by one place each.
    width = maxlen + length - 1
    padded = F.pad(by_distance, (0, length), value=fill).flatten(1)
    return padded[:, : length * width].view(count, length, width)


class RelativeAttention(nn.Module):
    """Multi-head attention with relative positions and a memory of keys and values.

    The logit of a key at distance d is ``q . k / e + sum_n r_n b_n(d)``: e is a head's width (muP's factor,
    not its root), r (10 numbers a head) is linear in the query's input and b (10 functions of distance)
    is learned and shared by the heads. Keys: ``b_nd``, ``{q,k,v,proj,r}_layer.*``.

    Args:
        hidsize: width of input and output.
        heads: number of heads; must divide ``hidsize``.
        maxlen: how many frames a query sees, itself included.
        init_scale: filters' norm of the values' and the last layer is its root.

    Source: ``SelfAttentionLayer`` of VPT; Dai et al. 2019 (Transformer-XL) for the memory.
    """

    def __init__(self, hidsize: int, heads: int, maxlen: int, init_scale: float) -> None:
        super().__init__()
        self.hidsize = hidsize
        self.heads = heads
        self.maxlen = maxlen
        self.width = hidsize // heads
        self.b_nd = nn.Parameter(torch.randn(BASIS_FUNCTIONS, maxlen) * 0.2)
        self.q_layer = _linear(hidsize, hidsize, 0.1)
        self.k_layer = _linear(hidsize, hidsize, 0.2, bias=False)
        self.v_layer = _linear(hidsize, hidsize, init_scale**0.5, bias=False)
        self.proj_layer = _linear(hidsize, hidsize, init_scale**0.5)
        self.r_layer = _linear(hidsize, BASIS_FUNCTIONS * heads, 0.1)

    def forward(
        self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, visibility: Visibility | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Attend within a window and to the memory.

        Args:
            x: (B * T, hidsize).
            keys: of the memory, (B, maxlen, hidsize).
            values: of the memory, (B, maxlen, hidsize).
            visibility: what is seen; None means all frames of window and memory, also later ones.

        Returns:
            (B * T, hidsize), and keys and values of the memory after the window.
        """
        batch = keys.shape[0]
        length = x.shape[0] // batch
        rows = (batch, length, self.hidsize)
        query = run(self.q_layer, x).view(rows)
        key, value = run(self.k_layer, x).view(rows), run(self.v_layer, x).view(rows)
        bias = self._bias(x, batch, length, visibility)
        new_keys, new_values = _later(keys, key), _later(values, value)
        if visibility is None:
            keys, values = torch.cat([keys, key], dim=1), torch.cat([values, value], dim=1)
        elif length == 1:
            # The frames that are seen are those of the memory after this one.
            keys, values = new_keys, new_values
        else:
            keys, values = torch.cat([keys[:, 1:], key], dim=1), torch.cat([values[:, 1:], value], dim=1)
        attended = _attend(self._split(query), self._split(keys), self._split(values), bias)
        return run(self.proj_layer, attended.reshape(x.shape)), new_keys, new_values

    def _bias(self, x: torch.Tensor, batch: int, length: int, visibility: Visibility | None) -> torch.Tensor:
        """Relative logits and what is hidden, (B, heads, T, frames)."""
        weights = run(self.r_layer, x)
        if length > 1:
            weights = weights.view(batch, length, self.heads, BASIS_FUNCTIONS).transpose(1, 2)
        weights = weights.reshape(-1, BASIS_FUNCTIONS)
        functions = self.b_nd.flip(1)
        by_distance = weights @ functions if visibility is None else torch.addmm(visibility.bias, weights, functions)
        if length > 1:
            fill = 0.0 if visibility is None else HIDDEN
            by_distance = by_distance_to_by_frame(by_distance.view(-1, length, self.maxlen), fill)
        bias = by_distance.view(batch, self.heads, length, -1)
        # The memory's first frame is too far for any distance, and seen where everything is.
        return F.pad(bias, (1, 0)) if visibility is None else bias

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, hidsize) to (B, heads, T, width)."""
        return x.view(x.shape[0], -1, self.heads, self.width).transpose(1, 2)


def _attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Attention with logits ``q . k / width + bias``: all (B, heads, T or frames, width), to (B, T, heads, width)."""
    batch, heads, length, width = query.shape
    if keys.dtype != query.dtype:
        keys, values = keys.to(query.dtype), values.to(query.dtype)
    if query.is_cuda or not bias.requires_grad:
        attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=1 / width)
        return attended.transpose(1, 2)
    # On a CPU the fused kernel takes no mask that is trained, and its substitute is slower than this.
    flat = (batch * heads, -1, width)
    keys, values = keys.reshape(flat), values.reshape(flat)
    logits = torch.baddbmm(bias.flatten(0, 1), query.reshape(flat), keys.transpose(1, 2), alpha=1 / width)
    return torch.bmm(logits.softmax(-1), values).view(batch, heads, length, width).transpose(1, 2)


def _later(memory: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """The last frames of memory and window together, as many as the memory holds, in its dtype."""
    length, maxlen = new.shape[1], memory.shape[1]
    if length >= maxlen:
        later = new[:, length - maxlen :]
    else:
        later = torch.cat([memory.narrow(1, length, maxlen - length), new], dim=1)
    return later if later.dtype == memory.dtype else later.to(memory.dtype)


def _linear(inputs: int, outputs: int, init_scale: float, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    scale_filters(layer.weight, init_scale)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
