"""What is done in a dataset: counts over its actions."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.modalities.vpt_actions import (
    BIN_CENTRES,
    CAMERA_BINS,
    INVENTORY_BUTTONS,
    NULL_BUTTONS,
    NULL_CAMERA,
    to_agent_action,
    to_env_action,
)
from mscore_plugin_minestudio.storage.layout import CAMERA_KEY, FLAG_KEYS

_MOST = 10
"""Combinations of buttons that are listed."""

_FEW = 32
"""Different integers whose frequencies are listed; of more only the range is."""


class ActionStatistics(Protocol):
    """Counts over actions.

    Attributes:
        frames: actions counted.
    """

    frames: int

    def add(self, actions: Mapping[str, NDArray[Any]]) -> None:
        """Count actions, as :meth:`~mscore_plugin_minestudio.modalities.actions.ActionReader.read` gives them."""
        ...

    def summary(self) -> dict[str, Any]:
        """The counts, as plain data that JSON can hold."""
        ...


class MinecraftStatistics:
    """Keys, camera movements and combinations of buttons.

    Attributes:
        frames: actions counted.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._pressed = dict.fromkeys(FLAG_KEYS, 0)
        self._buttons = np.zeros(INVENTORY_BUTTONS + 1, np.int64)
        self._camera = np.zeros(CAMERA_BINS**2, np.int64)

    def add(self, actions: Mapping[str, NDArray[Any]]) -> None:
        """Count actions, as :meth:`~mscore_plugin_minestudio.modalities.actions.ActionReader.read` gives them."""
        ids = to_agent_action(actions)
        self.frames += len(actions[CAMERA_KEY])
        for key in FLAG_KEYS:
            self._pressed[key] += int(np.count_nonzero(actions[key]))
        self._buttons += np.bincount(ids["buttons"].ravel(), minlength=len(self._buttons))
        self._camera += np.bincount(ids["camera"].ravel(), minlength=len(self._camera))

    def summary(self) -> dict[str, Any]:
        """Numbers of frames.

        Returns:
            ``keys``: by key that is pressed; ``camera``: in which it moves, in the id; ``nothing``: in which nothing
            is done; ``pitch`` and ``yaw``: by the middle of VPT's bin, degrees; ``most_frequent``: by combination
            of keys (as VPT's ids tell them apart), the ten first; and ``combinations``: how many there are.
        """
        turns = self._camera.reshape(CAMERA_BINS, CAMERA_BINS)
        degrees = [f"{centre:.2f}" for centre in BIN_CENTRES]
        frequent = [int(number) for number in np.argsort(-self._buttons, kind="stable")[:_MOST]]
        return {
            "keys": self._pressed,
            "camera": self.frames - int(self._camera[NULL_CAMERA]),
            "nothing": int(self._buttons[NULL_BUTTONS]),
            "pitch": dict(zip(degrees, turns.sum(axis=1).tolist(), strict=True)),
            "yaw": dict(zip(degrees, turns.sum(axis=0).tolist(), strict=True)),
            "most_frequent": {
                _name(number): int(self._buttons[number]) for number in frequent if self._buttons[number]
            },
            "combinations": int(np.count_nonzero(self._buttons)),
        }


class ArrayStatistics:
    """Ranges and frequencies of the values of arrays of any name.

    Attributes:
        frames: actions counted.
    """

    def __init__(self) -> None:
        self.frames = 0
        self._columns: dict[str, _Column] = {}

    def add(self, actions: Mapping[str, NDArray[Any]]) -> None:
        """Count actions, as :meth:`~mscore_plugin_minestudio.modalities.actions.ActionReader.read` gives them."""
        self.frames += len(next(iter(actions.values())))
        for key, array in actions.items():
            self._columns.setdefault(key, _Column(array)).add(array)

    def summary(self) -> dict[str, Any]:
        """By name: ``dtype``, ``shape``, ``min``, ``max``, ``mean``, and of few integers ``values``: how often each."""
        return {key: column.summary() for key, column in self._columns.items()}


class _Column:
    def __init__(self, array: NDArray[Any]) -> None:
        self._dtype, self._shape = array.dtype, array.shape[1:]
        self._low, self._high, self._mean, self._count = math.inf, -math.inf, 0.0, 0
        self._values: Counter[int] | None = None if array.dtype.kind == "f" else Counter()

    def add(self, array: NDArray[Any]) -> None:
        values = array[np.isfinite(array)]
        if values.size:
            self._low = min(self._low, float(values.min()))
            self._high = max(self._high, float(values.max()))
            self._mean += (
                (float(values.mean(dtype=np.float64)) - self._mean) * values.size / (self._count + values.size)
            )
            self._count += values.size
        if self._values is not None:
            self._values.update(int(value) for value in values)
            if len(self._values) > _FEW:
                self._values = None

    def summary(self) -> dict[str, Any]:
        numbers = dict.fromkeys(("min", "max", "mean"))
        if self._count:
            numbers |= {"min": self._low, "max": self._high, "mean": self._mean}
        values = {} if self._values is None else {"values": {str(key): n for key, n in sorted(self._values.items())}}
        return {"dtype": str(self._dtype), "shape": list(self._shape), **numbers, **values}


def _name(buttons: int) -> str:
    """A combination of buttons in words."""
    action = to_env_action({"buttons": np.array([buttons]), "camera": np.array([0])})
    keys = [key for key in FLAG_KEYS if action[key]]
    if action[CAMERA_KEY].any() and buttons != INVENTORY_BUTTONS:
        keys.append(CAMERA_KEY)
    return " + ".join(keys) or "nothing"
