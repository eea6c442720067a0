"""VPT's action ids: a Minecraft action as one of 8641 button combinations and one of 121 camera bins.

Keys that exclude each other form groups (forward and back together are neither; of the others the later wins),
and a combination is a number with a digit for each group. The inventory key is a combination of its own, beside
which nothing counts. The camera's angles are binned on a logarithmic scale, finest around zero. Source: Video
PreTraining (Baker et al. 2022), as MineStudio uses it.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mscore import MscoreError
from mscore_plugin_minestudio.storage.layout import ACTION_KEYS, CAMERA_KEY, FLAG_KEYS

NULL_BUTTONS = 0
"""Id of no button and no camera movement."""

INVENTORY_BUTTONS = 8640
"""Id of the inventory key."""

CAMERA_BINS = 11
"""Bins of the pitch, and of the yaw."""

# Not taken from mscore, which would import torch for it.
NULL_CAMERA = CAMERA_BINS**2 // 2
"""Id of no camera movement, the middle bin of both."""

_HOTBAR = tuple(f"hotbar.{number}" for number in range(1, 10))
_GROUPS = (
    _HOTBAR, ("forward", "back"), ("left", "right"), ("sprint", "sneak"),
    ("use",), ("drop",), ("attack",), ("jump",), (CAMERA_KEY,),
)  # fmt: skip
"""Keys that exclude each other, by the digits of an id, most significant first. Digit 0 is none of a group."""

_CANCELLING = (("forward", "back"), ("left", "right"))
"""Groups of which both keys together are none."""

_PACKED = (*(key for group in _GROUPS[:-1] for key in group), "inventory")
"""Keys by the bits of a packed action; the first 16 bits are whole groups, and so are the others."""

# The mu-law of mu 10 over 10 degrees, rounded to bins of 2, turned around: 11 ** (|y| / 10) - 1 degrees.
_POSITIVE_EDGES = 11.0 ** (np.arange(1, 11, 2) / 10) - 1
_POSITIVE_CENTRES = 11.0 ** (np.arange(2, 12, 2) / 10) - 1
_EDGES = np.concatenate((-_POSITIVE_EDGES[::-1], _POSITIVE_EDGES))
BIN_CENTRES = np.concatenate((-_POSITIVE_CENTRES[::-1], [0.0], _POSITIVE_CENTRES))
"""Degrees in the middle of each bin of the camera, (11,) float64."""


def to_agent_action(env_action: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Ids of actions as the environment takes them.

    Args:
        env_action: the 20 keys of :data:`~mscore_plugin_minestudio.storage.layout.FLAG_KEYS`, (…) integers or bools,
            0 for not pressed; ``camera`` (…, 2), degrees.

    Returns:
        ``buttons`` (…, 1) int64 below 8641 and ``camera`` (…, 1) int64 below 121.
    """
    angles = np.asarray(env_action[CAMERA_KEY])
    pitch, yaw = np.moveaxis(np.searchsorted(_EDGES, angles), -1, 0)
    camera = pitch * CAMERA_BINS + yaw
    pressed = np.stack([env_action[key] for key in _PACKED]) != 0
    low, middle, high = np.packbits(pressed, axis=0, bitorder="little")
    tables = _tables()
    buttons = tables.low[low | middle.astype(np.uint16) << 8] + tables.high[high] + (camera != NULL_CAMERA)
    inventory = pressed[-1]
    return {
        "buttons": np.where(inventory, INVENTORY_BUTTONS, buttons)[..., None],
        "camera": np.where(inventory, NULL_CAMERA, camera)[..., None],
    }


def to_env_action(agent_action: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Actions as the environment takes them; the camera turns to the middle of its bin.

    Args:
        agent_action: ``buttons`` and ``camera`` ids, (…, 1) integers.

    Returns:
        The 21 keys in the order in which they are stored: flags (…) int64, ``camera`` (…, 2) float64.

    Raises:
        MscoreError: an id is out of range.
    """
    buttons, camera = (np.asarray(agent_action[key])[..., 0] for key in ("buttons", "camera"))
    for name, ids, count in (("buttons", buttons, INVENTORY_BUTTONS + 1), ("camera", camera, CAMERA_BINS**2)):
        if ids.size and not 0 <= ids.min() <= ids.max() < count:
            raise MscoreError(f"{name} ids from {ids.min()} to {ids.max()}; expected ids from 0 to {count - 1}")
    tables = _tables()
    camera = np.where(tables.turning[buttons], camera, NULL_CAMERA)
    values: dict[str, NDArray[Any]] = {key: tables.flags[key][buttons] for key in FLAG_KEYS}
    values[CAMERA_KEY] = BIN_CENTRES[np.stack(np.divmod(camera, CAMERA_BINS), axis=-1)]
    return {key: values[key] for key in ACTION_KEYS}


class _Tables(NamedTuple):
    """What the ids are looked up in.

    Attributes:
        low: the first 16 bits of a packed action to their share of the id, (65536,) int64.
        high: the bits behind them to theirs, (256,) int64.
        flags: key to whether an id presses it, (8641,) int64.
        turning: whether the camera counts beside an id, (8641,) bool.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    flags: dict[str, NDArray[np.int64]]
    turning: NDArray[np.bool_]


@cache
def _tables() -> _Tables:
    low = {key: np.arange(2**16) >> bit & 1 for bit, key in enumerate(_PACKED[:16])}
    high = {key: np.arange(2**8) >> bit & 1 for bit, key in enumerate(_PACKED[16:])}
    flags = {key: np.zeros(INVENTORY_BUTTONS + 1, np.int64) for key in (*FLAG_KEYS, CAMERA_KEY)}
    rest = np.arange(INVENTORY_BUTTONS)
    for group in reversed(_GROUPS):
        rest, digit = np.divmod(rest, len(group) + 1)
        for number, key in enumerate(group, start=1):
            flags[key][:INVENTORY_BUTTONS] = digit == number
    flags["inventory"][INVENTORY_BUTTONS] = 1
    # Beside the inventory key MineStudio lets the camera turn, which its own ids never ask for.
    turning = flags.pop(CAMERA_KEY) == 1
    turning[INVENTORY_BUTTONS] = True
    return _Tables(_share(low), _share(high), flags, turning)


def _share(pressed: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
    """The share in the id of the groups whose keys these are."""
    share = np.zeros_like(next(iter(pressed.values())))
    weight = 1
    for group in reversed(_GROUPS):
        if group[0] in pressed:
            share += weight * _digit(group, [pressed[key] for key in group])
        weight *= len(group) + 1
    return share


def _digit(group: Sequence[str], pressed: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    digit = np.zeros_like(pressed[0])
    for number, flag in enumerate(pressed, start=1):
        digit[flag == 1] = number
    if group in _CANCELLING:
        digit[np.logical_and.reduce(pressed)] = 0
    return digit
