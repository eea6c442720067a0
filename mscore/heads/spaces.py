"""Gymnasium spaces as data: writing them to JSON, comparing them, and moving actions in and out."""

import math
from collections import OrderedDict
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from mscore.errors import MscoreError

NULL_CAMERA = 60
"""Camera bin of MineStudio's action space that means 'no movement' (the middle of 11 x 11)."""


def minecraft_action_space() -> spaces.Dict:
    """MineStudio's action space: 8641 button combinations and 121 camera bins."""
    return spaces.Dict({"buttons": spaces.MultiDiscrete([8641]), "camera": spaces.MultiDiscrete([121])})


def is_minecraft(space: gymnasium.Space[Any]) -> bool:
    """True for an action space with the keys ``buttons`` and ``camera``, each one number, of any size."""
    if not isinstance(space, spaces.Dict) or set(space.spaces) != {"buttons", "camera"}:
        return False
    return all(
        isinstance(part, spaces.Discrete) or (isinstance(part, spaces.MultiDiscrete) and part.nvec.size == 1)
        for part in space.spaces.values()
    )


def is_text(space: gymnasium.Space[Any]) -> bool:
    """True for a space of strings: Text, and those like it (MiniGrid's missions)."""
    return isinstance(space, spaces.Text) or (space.dtype is not None and space.dtype.kind == "U")


def describe_space(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """A space as plain data that JSON and checkpoints can hold; :func:`restore_space` reads it.

    Text and text-like spaces (MiniGrid's missions) are described by their greatest length alone.

    Raises:
        MscoreError: for a kind of space that mscore does not support.
    """
    match space:
        case spaces.Discrete():
            return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
        case spaces.MultiDiscrete():
            return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "shape": list(space.shape)}
        case spaces.Box():
            return {
                "type": "Box",
                "shape": list(space.shape),
                "dtype": str(space.dtype),
                "low": _bound(space.low),
                "high": _bound(space.high),
            }
        case spaces.Dict():
            return {"type": "Dict", "spaces": {key: describe_space(value) for key, value in space.spaces.items()}}
        case spaces.Tuple():
            return {"type": "Tuple", "spaces": [describe_space(value) for value in space.spaces]}
    if is_text(space):
        return {"type": "Text", "max_length": int(getattr(space, "max_length", 1000))}
    raise MscoreError(
        f"a space of type {type(space).__name__} is not supported; use Box, Discrete, MultiDiscrete, "
        "MultiBinary, Text, or Dict and Tuple of these"
    )


def restore_space(description: dict[str, Any]) -> gymnasium.Space[Any]:
    """The space that :func:`describe_space` described."""
    match description["type"]:
        case "Discrete":
            return spaces.Discrete(description["n"], start=description["start"])
        case "MultiDiscrete":
            return spaces.MultiDiscrete(np.array(description["nvec"]), start=np.array(description["start"]))
        case "MultiBinary":
            shape = description["shape"]
            return spaces.MultiBinary(shape[0] if len(shape) == 1 else shape)
        case "Box":
            shape, dtype = tuple(description["shape"]), np.dtype(description["dtype"])
            low = np.broadcast_to(np.array(description["low"], dtype=dtype), shape)
            high = np.broadcast_to(np.array(description["high"], dtype=dtype), shape)
            return spaces.Box(low, high, shape, dtype.type)
        case "Dict":
            parts = {key: restore_space(value) for key, value in description["spaces"].items()}
            return spaces.Dict(OrderedDict(parts))  # a plain dict would be sorted, and heads sample in order
        case "Tuple":
            return spaces.Tuple([restore_space(value) for value in description["spaces"]])
        case "Text":
            return spaces.Text(description["max_length"])
    raise MscoreError(f"unknown space type {description['type']!r}")


def _bound(values: Any) -> Any:
    """One number where all bounds are equal, so that a picture's space stays one line.

    Infinity is written as text (``"-inf"``), which numpy reads back: JSON has no number for it.
    """
    if values.size and (values == values.flat[0]).all():
        values = values.flat[0]
    return _infinities_as_text(values.tolist())


def _infinities_as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_infinities_as_text(item) for item in value]
    return str(value) if value in (math.inf, -math.inf) else value


def batch_observation(observation: Any, device: torch.device) -> dict[str, Any]:
    """Observations of several environments as a window of one step.

    Args:
        observation: one observation per environment; a Dict space's dicts, or the bare thing.
        device: where the tensors go.

    Returns:
        ``{name: tensor (B, 1, …)}``, text as a list of B lists of one string; a bare picture or vector
        is called ``image``.
    """
    rows = [row if isinstance(row, dict) else {"image": row} for row in observation]
    return {key: _stack([row[key] for row in rows], device) for key in rows[0]}


def _stack(values: list[Any], device: torch.device) -> Any:
    first = values[0]
    if isinstance(first, str):
        return [[value] for value in values]
    if isinstance(first, dict):
        return {key: _stack([value[key] for value in values], device) for key in first}
    if isinstance(first, tuple):
        return tuple(_stack([value[i] for value in values], device) for i in range(len(first)))
    return torch.from_numpy(np.stack([np.asarray(value) for value in values])).unsqueeze(1).to(device)


def to_environment(action: Any, space: gymnasium.Space[Any]) -> Any:
    """One environment's action (tensors without leading dimensions) as its space wants it.

    Continuous actions are clipped to the space's bounds: a Gaussian may sample beyond them.
    """
    if isinstance(space, spaces.Dict):
        return {key: to_environment(action[key], value) for key, value in space.spaces.items()}
    array = action.detach().cpu().numpy() if isinstance(action, torch.Tensor) else np.asarray(action)
    if isinstance(space, spaces.Discrete):
        return space.dtype.type(array.item())
    if isinstance(space, spaces.Box):
        return np.clip(array, space.low, space.high).astype(space.dtype)
    return array.astype(space.dtype)
