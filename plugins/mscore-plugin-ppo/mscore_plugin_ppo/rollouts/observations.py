"""What N environments showed over T steps, by the parts of their observation space."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from mscore import MscoreError, is_text

Path = tuple[Any, ...]
BARE = "image"
"""What an observation that is no dict is called in a policy's input."""


class Observations:
    """Storage for the observations of T steps in N environments.

    Args:
        space: of one environment's observations.
        steps: T.
        num_envs: N.

    Raises:
        MscoreError: the space has a part that cannot be stored.
    """

    def __init__(self, space: gymnasium.Space[Any], steps: int, num_envs: int) -> None:
        self.space = space
        self._is_dict = isinstance(space, spaces.Dict)
        self._stores = [(path, _store(part, steps, num_envs)) for path, part in parts(space)]

    def put(self, step: int, observation: Any) -> None:
        """Copy what the environments show at a step: a batch as gymnasium's vector environments shape it."""
        for path, store in self._stores:
            store[step] = _at(observation, path)

    def frame(self, step: int) -> dict[str, Any]:
        """One step as a policy's input: (N, 1, …), text as N lists of one string."""
        return self._nest(
            lambda store: (
                [[text] for text in store[step]]
                if isinstance(store, list)
                else torch.from_numpy(store[step]).unsqueeze(1)
            )
        )

    def window(self) -> dict[str, Any]:
        """All steps as a policy's input: (N, T, …), text as N lists of T strings."""
        return self._nest(
            lambda store: (
                [list(row) for row in zip(*store, strict=True)]
                if isinstance(store, list)
                else torch.from_numpy(store).transpose(0, 1)
            )
        )

    def _nest(self, convert: Callable[[Any], Any]) -> dict[str, Any]:
        stores = iter(self._stores)
        value = nest(self.space, lambda: convert(next(stores)[1]))
        return value if self._is_dict else {BARE: value}


def frame_of(space: gymnasium.Space[Any], rows: list[Any]) -> dict[str, Any]:
    """Single observations, one per row, as a policy's input of one step (B, 1, …)."""
    batch = Observations(space, 1, len(rows))
    batch.put(0, batched(space, rows))
    return batch.frame(0)


def batched(space: gymnasium.Space[Any], rows: list[Any]) -> Any:
    """Single observations as one batch, shaped as gymnasium's vector environments shape it."""
    columns = [_column(part, [_at(row, path) for row in rows]) for path, part in parts(space)]
    values = iter(columns)
    return nest(space, lambda: next(values))


def parts(space: gymnasium.Space[Any], path: Path = ()) -> Iterator[tuple[Path, gymnasium.Space[Any]]]:
    """The parts of nested Dict and Tuple spaces with their places, in the space's order."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from parts(part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from parts(part, (*path, index))
    else:
        yield path, space


def nest(space: gymnasium.Space[Any], value: Callable[[], Any]) -> Any:
    """A nest of the space's shape whose leaves ``value`` gives, in the order of :func:`parts`."""
    if isinstance(space, spaces.Dict):
        return {key: nest(part, value) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(nest(part, value) for part in space.spaces)
    return value()


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _column(space: gymnasium.Space[Any], values: list[Any]) -> Any:
    return tuple(values) if is_text(space) else np.stack([np.asarray(value) for value in values])


def _store(space: gymnasium.Space[Any], steps: int, num_envs: int) -> Any:
    if is_text(space):
        return [()] * steps
    if space.shape is None or space.dtype is None:
        raise MscoreError(
            f"observations of the space {space} cannot be kept in fragments; use Box, Discrete, MultiDiscrete, "
            "MultiBinary, Text, or Dict and Tuple of these"
        )
    return np.zeros((steps, num_envs, *space.shape), space.dtype)
