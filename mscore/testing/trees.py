"""Nests of tensors in the checks: copying, comparing and cutting batches and latents."""

import io
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch


def copied(value: Any) -> Any:
    """A batch that shares no tensor and no container with the original."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) for item in value]
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(copied(item) for item in value)
    return value


def named_leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors and numbers of a nest with their dotted paths."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from named_leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from named_leaves(item, f"{path}.{index}" if path else str(index))
    elif isinstance(value, torch.Tensor | bool | int | float):
        yield path, value


def difference(one: Any, other: Any, rtol: float = 0.0, atol: float = 0.0) -> str:
    """Where two nests differ, in words; ``""`` if they agree. NaN agrees with NaN."""
    left, right = dict(named_leaves(one)), dict(named_leaves(other))
    if left.keys() != right.keys():
        return f"there are other keys: {', '.join(sorted(left.keys() ^ right.keys()))}"
    for path, value in left.items():
        a, b = torch.as_tensor(value).detach(), torch.as_tensor(right[path]).detach()
        if a.shape != b.shape:
            return f"{path} has the shape {tuple(a.shape)} and {tuple(b.shape)}"
        if not a.numel():
            continue
        a, b = a.double(), b.double()
        if not torch.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True):
            gap = (a - b).abs().nan_to_num(math.inf).max().item()
            return f"{path} differs by up to {gap:.3g}"
    return ""


def cut(batch: Mapping[str, Any], rows: slice = slice(None), steps: slice = slice(None)) -> dict[str, Any]:
    """Some rows and steps of a batch; names of episodes have rows only."""
    return {
        key: list(value)[rows] if key == "episode" else _cut(value, rows, steps)
        for key, value in batch.items()
        if isinstance(value, torch.Tensor | Mapping | list | tuple)
    }


def _cut(value: Any, rows: slice, steps: slice) -> Any:
    if isinstance(value, torch.Tensor):
        return value[rows, steps]
    if isinstance(value, Mapping):
        return {key: _cut(item, rows, steps) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_cut(item, rows, steps) for item in value)
    return [row[steps] for row in value[rows]]


def per_frame(latents: Any, batch_size: int, length: int) -> dict[str, torch.Tensor]:
    """The latents that have leading (B, T), by path."""
    return {
        path: leaf
        for path, leaf in named_leaves(latents)
        if isinstance(leaf, torch.Tensor) and leaf.shape[:2] == (batch_size, length)
    }


def through_checkpoint(state: Any) -> Any:
    """A state as it comes back from a checkpoint that is read with ``weights_only=True``."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def rows_differ(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """True if two latents differ beyond what another order of additions can do."""
    return not torch.allclose(actual.double(), expected.double(), rtol=1e-3, atol=1e-4, equal_nan=True)
