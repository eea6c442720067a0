"""Encoders of observations: which kind of thing a space holds, and a small network for each kind."""

import math
from collections.abc import Iterator
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from torch import nn

from mscore import MscoreError, is_text

Kind = Literal["grid", "picture", "numbers", "choices", "text"]

GRID_SIDE = 16
"""Integer arrays up to this height and width hold symbols, as does…"""
GRID_VALUES = 32
"""…an integer array of any size whose space allows at most this many values."""
MANY_VALUES = 1e6
"""Numbers that range further than this count as unbounded."""
OCTAVES = 4
"""Bounded numbers are seen at half a turn per half range, and at twice, four times and eight times that."""


def kind_of(space: gymnasium.Space[Any], grid_values: int | None = None) -> Kind:
    """What a space that is not a Dict or a Tuple holds.

    - ``grid``: symbols in cells, which are embedded. Integer Boxes (H, W) or (H, W, C) of at most 16 x 16
      cells (such as MiniGrid's 7 x 7 x 3, which its space declares as 0 to 255) or at most 32 values.
    - ``picture``: other Boxes (H, W, C), channels last, and integer Boxes (H, W); scaled by their bounds.
    - ``numbers``: every other Box, and MultiBinary.
    - ``choices``: Discrete and MultiDiscrete, which are embedded.
    - ``text``: Text, and other spaces of strings.

    Args:
        space: the space.
        grid_values: overrides the rule for integer Boxes (H, W) and (H, W, C): 0 means that they are
            pictures; a number means that they are grids of symbols below it.

    Raises:
        MscoreError: for another kind of space.
    """
    if is_text(space):
        return "text"
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return "choices"
    if isinstance(space, spaces.MultiBinary):
        return "numbers"
    if not isinstance(space, spaces.Box):
        raise MscoreError(f"an observation space of type {type(space).__name__} is not supported")
    integers = space.dtype.kind in "iu"
    if len(space.shape) == 3 or (len(space.shape) == 2 and integers):
        if integers and (_is_grid(space) if grid_values is None else grid_values > 0):
            return "grid"
        return "picture" if _is_bounded(space) else "numbers"
    return "numbers"


def _is_grid(space: spaces.Box) -> bool:
    values = int(space.high.max()) - int(space.low.min()) + 1
    return values <= GRID_VALUES or (values <= 256 and max(space.shape[:2]) <= GRID_SIDE)


def _is_bounded(space: spaces.Box) -> bool:
    return float(space.high.max()) - float(space.low.min()) < MANY_VALUES


def leaves(space: gymnasium.Space[Any], path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Paths and spaces of the parts of nested Dict and Tuple spaces, in the spaces' order."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from leaves(part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from leaves(part, (*path, index))
    else:
        yield path, space


class Cells(nn.Module):
    """Embeds the symbols of a grid: (N, H, W[, C]) integers to (N, size, H, W).

    A cell's channels (such as object, colour and state) have a table each; a cell is the sum of theirs.

    Args:
        space: the grid's space.
        size: of the embedding.
        values: symbols per channel, counted from 0; None takes them from the space's bounds.
    """

    offsets: torch.Tensor

    def __init__(self, space: spaces.Box, size: int, values: int | None = None) -> None:
        super().__init__()
        low = 0 if values else int(space.low.min())
        count = values or int(space.high.max()) - low + 1
        channels = space.shape[2] if len(space.shape) == 3 else 1
        self.table = nn.Embedding(count * channels, size)
        self.register_buffer("offsets", torch.arange(channels) * count - low, persistent=False)

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        """Symbols to embeddings."""
        rows = grid.reshape(*grid.shape[:3], -1).long() + self.offsets
        # One look-up per channel: half the cost of an embedding bag on a CPU, and as deterministic.
        first, *others = (self.table(channel) for channel in rows.unbind(-1))
        cells: torch.Tensor = sum(others, start=first)
        return cells.permute(0, 3, 1, 2)


class Pixels(nn.Module):
    """Scales a picture by its space's bounds to 0..1: (N, H, W[, C]) to (N, C, H, W).

    Args:
        space: the picture's space.
    """

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.low = float(space.low.min())
        self.range = max(float(space.high.max()) - self.low, 1e-6)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Pixels to float32."""
        channels = picture.reshape(*picture.shape[:3], -1).permute(0, 3, 1, 2)
        return (channels.float() - self.low) / self.range


class SpatialEncoder(nn.Module):
    """A small convolutional network for grids and pictures, conditioned on text by FiLM (Perez et al. 2018).

    Grids go through two convolutions of 3 x 3; greater ones, and pictures, through strided ones before.
    The last convolution's features are scaled and shifted, channel by channel, by the condition.

    Args:
        space: the observation's space, (H, W) or (H, W, C).
        kind: ``grid`` or ``picture``.
        size: of the encoding.
        channels: of the convolutions.
        condition: size of the condition; 0 for none.
        grid_values: symbols per channel of a grid; None takes them from the space's bounds.
    """

    def __init__(
        self, space: spaces.Box, kind: Kind, size: int, channels: int, condition: int, grid_values: int | None
    ) -> None:
        super().__init__()
        self.frame = tuple(space.shape)
        depth = space.shape[2] if len(space.shape) == 3 else 1
        inputs = channels // 4 if kind == "grid" else depth
        self.input = Cells(space, inputs, grid_values) if kind == "grid" else Pixels(space)
        side, convolutions = list(space.shape[:2]), []
        plan = _layers(min(side), kind)
        for number, (kernel, stride, padding) in enumerate(plan, 1):
            outputs = channels if number == len(plan) else channels // 2
            convolutions.append(nn.Conv2d(inputs, outputs, kernel, stride, padding))
            side = [(length + 2 * padding - kernel) // stride + 1 for length in side]
            inputs = outputs
        self.convolutions = nn.ModuleList(convolutions)
        self.film = nn.Linear(condition, 2 * channels) if condition else None
        self.output = nn.Linear(channels * side[0] * side[1], size)

    def forward(self, frames: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
        """Frames (N, H, W[, C]) and conditions (N, condition) to encodings (N, size)."""
        features = self.input(frames).to(self.output.weight.dtype)
        *others, last = self.convolutions
        for convolution in others:
            features = F.relu(convolution(features))
        features = last(features)
        if self.film is not None and condition is not None:
            scale, shift = self.film(condition)[..., None, None].chunk(2, 1)
            features = features * (1 + scale) + shift
        return F.relu(self.output(F.relu(features).flatten(1)))


def _layers(side: int, kind: Kind) -> list[tuple[int, int, int]]:
    """Kernel, stride and padding of the convolutions for frames whose shorter side is ``side``."""
    layers = []
    if kind == "picture" and side >= 36:
        layers.append((8, 4, 0))
        side = (side - 8) // 4 + 1
    while side > 9:
        layers.append((4, 2, 1))
        side //= 2
    for _ in range(2 if kind == "grid" else 1):
        padding = 0 if side >= 5 else 1
        layers.append((3, 1, padding))
        side -= 2 * (1 - padding)
    return layers


class Numbers(nn.Module):
    """A layer over numbers: bounded ones scaled to -1..1, others compressed to sign(x) log(1 + |x|).

    Bounded real numbers are also seen as sines and cosines of several octaves (Tancik et al. 2020): what matters may
    happen in a small part of the range, such as a pole's angle while it stands, and small differences are learned late.

    Args:
        space: Box or MultiBinary.
        size: of the encoding.
    """

    bounded: torch.Tensor
    middle: torch.Tensor
    half_range: torch.Tensor
    waves: torch.Tensor
    """Places of the numbers that are seen as sines and cosines."""
    frequencies: torch.Tensor

    def __init__(self, space: spaces.Box | spaces.MultiBinary, size: int) -> None:
        super().__init__()
        bounds = (
            (space.low, space.high) if isinstance(space, spaces.Box) else (np.zeros(space.shape), np.ones(space.shape))
        )
        low, high = (np.asarray(bound, dtype=np.float64).reshape(-1) for bound in bounds)
        with np.errstate(over="ignore"):
            bounded = (high - low < MANY_VALUES) & (high > low)
        low, high = np.where(bounded, low, -1), np.where(bounded, high, 1)
        self.register_buffer("bounded", torch.from_numpy(bounded), persistent=False)
        self.register_buffer("middle", torch.from_numpy((low + high) / 2).float(), persistent=False)
        self.register_buffer("half_range", torch.from_numpy((high - low) / 2).float(), persistent=False)
        real = bounded & (space.dtype is not None and space.dtype.kind == "f")
        self.register_buffer("waves", torch.from_numpy(real.nonzero()[0]), persistent=False)
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(OCTAVES), persistent=False)
        self.layer = nn.Linear(len(low) + 2 * OCTAVES * len(self.waves), size)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Numbers (N, …) to encodings (N, size)."""
        flat = numbers.reshape(len(numbers), -1).float()
        compressed = flat.sign() * flat.abs().log1p()
        scaled = torch.where(self.bounded, (flat - self.middle) / self.half_range, compressed)
        angles = (scaled[:, self.waves, None] * self.frequencies).flatten(1)
        seen = torch.cat([scaled, angles.sin(), angles.cos()], -1)
        return F.relu(self.layer(seen.to(self.layer.weight.dtype)))


class Choices(nn.Module):
    """Embeds Discrete and MultiDiscrete: the sum of a table per component.

    Args:
        space: the space.
        size: of the embedding.
    """

    offsets: torch.Tensor

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete, size: int) -> None:
        super().__init__()
        counts = np.reshape(space.n if isinstance(space, spaces.Discrete) else space.nvec, -1)
        start = np.reshape(space.start, -1)
        self.table = nn.Embedding(int(counts.sum()), size)
        offsets = np.concatenate(([0], counts.cumsum()[:-1])) - start
        self.register_buffer("offsets", torch.from_numpy(offsets).long(), persistent=False)

    def forward(self, choices: torch.Tensor) -> torch.Tensor:
        """Choices (N, …) to embeddings (N, size)."""
        rows = choices.reshape(len(choices), -1).long() + self.offsets
        return torch.sum(self.table(rows), 1)
