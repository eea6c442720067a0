"""The spaces of a dataset that is not of Minecraft: ``spaces.json`` in its folder, and how its actions are stored.

MineStudio's layout has no place for them, and its own reader passes over the file. A dataset without it is one of
Minecraft. Actions are stored as arrays by name: the parts of a Dict space under their keys (``move``, and
``arm.joint`` for a Dict within a Dict), the actions of another space as ``action``.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mscore import MscoreError, describe_space, restore_space
from mscore_plugin_minestudio.storage.layout import DatasetError

SPACES_FILE = "spaces.json"

ACTION_NAME = "action"
"""Name of the actions of a space that has no parts."""


@dataclass(frozen=True)
class StoredSpaces:
    """What the environment of a dataset showed, and what was chosen from.

    Attributes:
        observation_space: of the environment; the dataset's pictures are of it.
        action_space: of the stored actions.
    """

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]


def write_spaces(root: Path, stored: StoredSpaces) -> None:
    """Write a dataset's spaces into its folder; the file appears all at once.

    Raises:
        MscoreError: a space of a kind that mscore does not support.
    """
    content = {
        "observation_space": describe_space(stored.observation_space),
        "action_space": describe_space(stored.action_space),
    }
    handle, draft = tempfile.mkstemp(prefix=f".{SPACES_FILE}.", dir=root)
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
    os.chmod(draft, 0o644)
    os.replace(draft, root / SPACES_FILE)


def read_spaces(dataset_dirs: Sequence[str | Path]) -> StoredSpaces | None:
    """The spaces that some datasets share; None if they are of Minecraft.

    Raises:
        DatasetError: the file cannot be read, or the datasets have different spaces.
    """
    found = {folder: _read(Path(folder).expanduser() / SPACES_FILE) for folder in dataset_dirs}
    (first, content), *others = found.items()
    for folder, other in others:
        if other != content:
            raise DatasetError(
                f"other spaces than those of {first}: datasets of different environments cannot be trained on together",
                file=Path(folder) / SPACES_FILE,
            )
    if content is None:
        return None
    try:
        return StoredSpaces(restore_space(content["observation_space"]), restore_space(content["action_space"]))
    except (KeyError, TypeError, ValueError, AssertionError, MscoreError) as error:
        raise DatasetError(f"no spaces of a dataset ({error!r})", file=Path(first) / SPACES_FILE) from error


def flatten_action(space: gymnasium.Space[Any], actions: Any) -> dict[str, NDArray[Any]]:
    """Actions as they are stored: arrays (T, …) by name.

    Args:
        space: what they were chosen from.
        actions: an array (T, …), or dicts of arrays.

    Raises:
        DatasetError: two parts of the space would be stored under one name.
    """
    flat: dict[str, NDArray[Any]] = {}
    for path in _paths(space):
        value = actions
        for key in path:
            value = value[key]
        if _name(path) in flat:
            raise DatasetError(f"two parts of the action space would be stored as {_name(path)!r}; rename one")
        flat[_name(path)] = np.asarray(value)
    return flat


def unflatten_action(space: gymnasium.Space[Any], stored: Mapping[str, NDArray[Any]]) -> Any:
    """Actions of a batch, from what :func:`flatten_action` made: int64 of choices, float32 of a Box.

    Args:
        space: what they were chosen from.
        stored: arrays (…, *shape) by name, with any leading dimensions.

    Raises:
        DatasetError: an array is missing, or has not the space's shape.
    """
    return _unflatten(space, stored, ())


def padding_action(space: gymnasium.Space[Any]) -> dict[str, NDArray[Any]]:
    """An action of the space as it is stored, for frames that have none: the first choices, and the least motion."""
    flat: dict[str, NDArray[Any]] = {}
    for path in _paths(space):
        part: Any = space
        for key in path:
            part = part[key]
        match part:
            case spaces.Discrete() | spaces.MultiDiscrete():
                flat[_name(path)] = np.asarray(part.start)
            case spaces.Box():
                flat[_name(path)] = np.clip(np.zeros(part.shape, part.dtype), part.low, part.high)
            case _:
                flat[_name(path)] = np.zeros(part.shape, part.dtype)
    return flat


def _unflatten(space: gymnasium.Space[Any], stored: Mapping[str, NDArray[Any]], path: tuple[str, ...]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _unflatten(part, stored, (*path, key)) for key, part in space.spaces.items()}
    name, shape = _name(path), space.shape or ()
    if name not in stored or stored[name].shape[stored[name].ndim - len(shape) :] != shape:
        found = f"shape {stored[name].shape}" if name in stored else f"{', '.join(stored)} alone"
        raise DatasetError(f"action {name!r}: found {found}, expected frames of {shape} as {SPACES_FILE} says")
    if isinstance(space, spaces.MultiBinary):
        return stored[name]
    return stored[name].astype(np.float32 if isinstance(space, spaces.Box) else np.int64, copy=False)


def _paths(space: gymnasium.Space[Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _paths(part, (*path, key))
    else:
        yield path


def _name(path: tuple[str, ...]) -> str:
    return ".".join(path) or ACTION_NAME


def _read(path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot be read ({error})", file=path) from error
