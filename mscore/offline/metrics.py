"""Metrics without a host sync per step.

A step stacks its 0-d tensors once and keeps the result on the device; a flush brings everything since
the last one to the host at once.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from mscore.errors import MscoreError


class StepMetrics:
    """The terms that the objectives of one step reported, by key, before they are averaged."""

    __slots__ = ("names", "numbers", "tensors")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.tensors: list[torch.Tensor] = []
        self.numbers: dict[str, float] = {}

    def add(self, name: str, value: torch.Tensor | float) -> None:
        """Add a term.

        Raises:
            MscoreError: the value is neither a number nor a tensor of one element.
        """
        if isinstance(value, torch.Tensor):
            if value.dim():
                if value.numel() != 1:
                    raise MscoreError(
                        f"metric {name!r} has the shape {tuple(value.shape)}; expected a number or one element"
                    )
                value = value.reshape(())
            self.names.append(name)
            self.tensors.append(value)
        elif isinstance(value, bool | int | float):
            self.numbers[name] = float(value)
        else:
            raise MscoreError(f"metric {name!r} is a {type(value).__name__}; expected a number or a 0-d tensor")

    def stacked(self) -> torch.Tensor:
        """The tensors as one float32 vector on the device of the first."""
        with torch.no_grad():
            try:
                return torch.stack(self.tensors)
            except RuntimeError:
                # Terms of several dtypes or devices: rare, so the common case pays nothing for it.
                device = self.tensors[0].device
                return torch.stack([t.to(device, torch.float32, non_blocking=True) for t in self.tensors])


class NonFinite(NamedTuple):
    """The first loss of a window that is NaN or infinite."""

    name: str
    value: float
    where: Any


class Window:
    """The steps since the last flush."""

    def __init__(self) -> None:
        self._steps: list[tuple[list[str], torch.Tensor, dict[str, float], torch.Tensor | float]] = []
        self._places: list[Any] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: StepMetrics, stacked: torch.Tensor, where: Any, weight: torch.Tensor | float = 1.0) -> None:
        """Add a step; ``where`` names it in messages, ``weight`` says how much it counts in the mean."""
        self._steps.append((step.names, stacked, step.numbers, weight))
        self._places.append(where)

    def first_non_finite(self) -> NonFinite | None:
        """The first loss that is not finite, found with one transfer for all steps."""
        if not self._steps:
            return None
        # The total is the last entry of every step.
        totals = torch.stack([stacked[-1] for _, stacked, _, _ in self._steps]).tolist()
        for (names, stacked, _, _), where, total in zip(self._steps, self._places, totals, strict=True):
            if not math.isfinite(total):
                return blame(names, stacked.tolist(), where)
        return None

    def sums(self) -> dict[str, tuple[float, float]]:
        """Weighted sum and weight of every key, brought to the host at once; the window is then empty."""
        totals: dict[str, tuple[float, float]] = {}
        weights = _to_host([weight for *_, weight in self._steps])
        start = 0
        while start < len(self._steps):
            names = self._steps[start][0]
            end = start
            while end < len(self._steps) and self._steps[end][0] == names:
                end += 1
            rows = torch.stack([stacked for _, stacked, _, _ in self._steps[start:end]]).tolist()
            for row, weight in zip(rows, weights[start:end], strict=True):
                _accumulate(totals, dict(zip(names, row, strict=True)), weight)
            start = end
        for (_, _, numbers, _), weight in zip(self._steps, weights, strict=True):
            _accumulate(totals, numbers, weight)
        self._steps, self._places = [], []
        return totals


def blame(names: Sequence[str], values: Sequence[float], where: Any) -> NonFinite:
    """The objective whose loss is not finite, or the total where each one is finite by itself."""
    for name, value in zip(names, values, strict=True):
        if name.endswith("/loss") and not math.isfinite(value):
            return NonFinite(name, value, where)
    raise ValueError("every loss is finite")


def means(totals: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Weighted mean of every key that has any weight."""
    return {name: total / weight for name, (total, weight) in totals.items() if weight}


def merge(parts: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """Add up the sums of several ranks, whichever keys each has."""
    totals: dict[str, tuple[float, float]] = {}
    for part in parts:
        for name, (total, weight) in part.items():
            before = totals.get(name, (0.0, 0.0))
            totals[name] = (before[0] + total, before[1] + weight)
    return totals


def _accumulate(totals: dict[str, tuple[float, float]], values: Mapping[str, float], weight: float) -> None:
    for name, value in values.items():
        total, count = totals.get(name, (0.0, 0.0))
        # A step without weight (all of its rows idle) says nothing, whatever its value.
        totals[name] = (total + value * weight if weight else total, count + weight)


def _to_host(weights: Sequence[torch.Tensor | float]) -> list[float]:
    tensors = [weight for weight in weights if isinstance(weight, torch.Tensor)]
    if len(tensors) == len(weights) and tensors:
        return torch.stack(tensors).float().tolist()
    return [float(weight) for weight in weights]
