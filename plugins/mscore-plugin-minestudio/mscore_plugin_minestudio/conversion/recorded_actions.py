"""What was done in a recording: from the lines of its JSON file to actions and meta information.

The rules are those of OpenAI's VPT and of MineStudio, with two repairs: the first line of a recording moves nothing
(MineStudio takes the whole yaw and pitch as a change), and events come from the statistics of the game.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.storage.layout import ACTION_KEYS, CAMERA_KEY, FLAG_KEYS, DatasetError

FLAG_OF_KEY = {
    "key.keyboard.s": "back",
    "key.keyboard.q": "drop",
    "key.keyboard.w": "forward",
    **{f"key.keyboard.{number}": f"hotbar.{number}" for number in range(1, 10)},
    "key.keyboard.e": "inventory",
    "key.keyboard.space": "jump",
    "key.keyboard.a": "left",
    "key.keyboard.d": "right",
    "key.keyboard.left.shift": "sneak",
    "key.keyboard.left.control": "sprint",
}
"""The keys that are actions. Escape and the swapping of hands are none in MineStudio's sets."""

FLAG_OF_BUTTON = {0: "attack", 1: "use"}

DEGREES_A_PIXEL = 360 / 2400
"""Of the view, for the mouse's movement in pixels of the recorded screen."""

SCREEN_HEIGHT = 720
"""Of the recorded screen, in whose pixels the mouse's place is given."""

VIDEO_SIZE = (640, 360)
"""Width and height of the recordings' videos."""

_NO_EVENTS = frozenset(
    f"minecraft.custom:minecraft.{name}"
    for name in (
        "play_one_minute",
        "play_time",
        "time_since_death",
        "time_since_rest",
        "sneak_time",
        "total_world_time",
    )
)
_NO_EVENT_SUFFIX = "_one_cm"


@dataclass(frozen=True)
class RecordedRows:
    """A recording's lines.

    Attributes:
        action: the 21 arrays of :data:`~mscore_plugin_minestudio.storage.layout.ACTION_KEYS`, (T,) int64, the camera
            (T, 2) float64; row t is what was done while picture t was seen.
        meta_info: a dict for each line, with MineStudio's keys. ``events`` are the game's statistics that rose
            since the line before, other than those of time and distance; none where the lines have no statistics.
    """

    action: dict[str, NDArray[Any]]
    meta_info: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.meta_info)

    @property
    def acts(self) -> NDArray[np.bool_]:
        """(T,): whether anything is done in a row."""
        moves = (self.action[CAMERA_KEY] != 0).any(axis=1)
        pressed = np.stack([self.action[key] for key in FLAG_KEYS]).any(axis=0)
        return np.asarray(moves | pressed)

    def kept(self, keep: NDArray[np.bool_]) -> "RecordedRows":
        """The rows of a mask; what was seen to happen in others counts for the next that is kept."""
        infos: list[dict[str, Any]] = []
        yaw, pitch, events = 0.0, 0.0, dict[str, int]()
        for info, kept in zip(self.meta_info, keep, strict=True):
            yaw, pitch = yaw + info["delta_yaw"], pitch + info["delta_pitch"]
            for event, count in info["events"].items():
                events[event] = events.get(event, 0) + count
            if kept:
                infos.append({**info, "delta_yaw": yaw, "delta_pitch": pitch, "events": events})
                yaw, pitch, events = 0.0, 0.0, {}
        return RecordedRows({key: array[keep] for key, array in self.action.items()}, infos)


def read_rows(path: Path) -> RecordedRows:
    """Read the actions of a recording.

    Args:
        path: the JSON-lines file, an object a line, one line a frame.

    Raises:
        DatasetError: a line is not what VPT's recorder writes; with the file and the line.
    """
    flags = {key: list[int]() for key in FLAG_KEYS}
    camera, infos = [], []
    attack_is_stuck, hotbar = False, 0
    before: _Line | None = None
    for line in _lines(path):
        pressed = {FLAG_OF_KEY[key] for key in line.items("keyboard", "keys") if key in FLAG_OF_KEY}
        pressed |= {FLAG_OF_BUTTON[button] for button in line.items("mouse", "buttons") if button in FLAG_OF_BUTTON}
        new_buttons = line.items("mouse", "newButtons")
        # A button that was down when the recording began is one whose release was never seen.
        attack_is_stuck = new_buttons == [0] if before is None else attack_is_stuck and 0 not in new_buttons
        if attack_is_stuck:
            pressed.discard("attack")
        # The wheel changes the slot without a key.
        if (slot := line.slot()) != hotbar:
            pressed.add(f"hotbar.{slot + 1}")
        hotbar = slot
        for key, values in flags.items():
            values.append(int(key in pressed))
        camera.append([line.number("mouse", axis) * DEGREES_A_PIXEL for axis in ("dy", "dx")])
        infos.append(_meta_info(line, before))
        before = line
    if before is None:
        raise DatasetError("it is empty; expected a line for each frame of the video", file=path)
    arrays = {key: np.array(values, dtype=np.int64) for key, values in flags.items()}
    arrays[CAMERA_KEY] = np.array(camera, dtype=np.float64)
    return RecordedRows({key: arrays[key] for key in ACTION_KEYS}, infos)


def _meta_info(line: "_Line", before: "_Line | None") -> dict[str, Any]:
    yaw, pitch = line.number("yaw"), line.number("pitch")
    is_open = line.flag("isGuiOpen")
    scale = VIDEO_SIZE[1] / SCREEN_HEIGHT
    return {
        "yaw": yaw,
        "pitch": pitch,
        **{key: line.number(key) for key in ("xpos", "ypos", "zpos")},
        "hotbar": line.slot(),
        "inventory": line.inventory(),
        "isGuiOpen": is_open,
        "isGuiInventory": line.flag("isGuiInventory"),
        "delta_yaw": 0.0 if before is None else yaw - before.number("yaw"),
        "delta_pitch": 0.0 if before is None else pitch - before.number("pitch"),
        "events": {} if before is None else _events(line.stats(), before.stats()),
        "cursor_x": int(line.number("mouse", "x") * scale) if is_open else 0,
        "cursor_y": int(line.number("mouse", "y") * scale) if is_open else 0,
    }


def _events(stats: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """What rose; a statistic that falls is that of another world."""
    return {
        name: count - before.get(name, 0)
        for name, count in stats.items()
        if count > before.get(name, 0) and name not in _NO_EVENTS and not name.endswith(_NO_EVENT_SUFFIX)
    }


def _lines(path: Path) -> Iterator["_Line"]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                yield _Line(path, number, _parse(text, number, path))
    except UnicodeDecodeError as error:
        raise DatasetError(f"it is not text in UTF-8 ({error})", file=path) from error
    except OSError as error:
        raise DatasetError(f"it cannot be read ({error})", file=path) from error


def _parse(text: str, number: int, path: Path) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"line {number} is not JSON ({error})", file=path) from error
    if not isinstance(data, dict):
        raise DatasetError(f"line {number} is {text.strip()[:40]!r}; expected an object", file=path)
    return data


class _Line:
    """A line of a recording, whose fields are checked as they are taken."""

    def __init__(self, path: Path, number: int, data: dict[str, Any]) -> None:
        self._path = path
        self._number = number
        self._data = data

    def number(self, *keys: str) -> float:
        value = self._take(keys)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise self._unexpected(keys, value, "a number")
        return float(value)

    def flag(self, key: str) -> bool:
        value = self._take((key,))
        if not isinstance(value, bool):
            raise self._unexpected((key,), value, "true or false")
        return value

    def items(self, *keys: str) -> list[Any]:
        value = self._take(keys)
        if not isinstance(value, list) or not all(isinstance(item, (str, int)) for item in value):
            raise self._unexpected(keys, value, "a list of keys or buttons")
        return value

    def slot(self) -> int:
        value = self._take(("hotbar",))
        if not isinstance(value, int) or not 0 <= value <= 8:
            raise self._unexpected(("hotbar",), value, "a number from 0 to 8")
        return value

    def inventory(self) -> list[dict[str, Any]]:
        value = self._take(("inventory",))
        if not isinstance(value, list) or not all(
            isinstance(item, dict) and isinstance(item.get("type"), str) and isinstance(item.get("quantity"), int)
            for item in value
        ):
            raise self._unexpected(("inventory",), value, "a list of {type, quantity}")
        return [{"type": item["type"], "quantity": item["quantity"]} for item in value]

    def stats(self) -> dict[str, int]:
        value = self._data.get("stats", {})
        if not isinstance(value, dict) or not all(isinstance(count, int) for count in value.values()):
            raise self._unexpected(("stats",), value, "numbers by name")
        return value

    def _take(self, keys: tuple[str, ...]) -> Any:
        value: Any = self._data
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                raise DatasetError(f"line {self._number} has no {'.'.join(keys)!r}", file=self._path)
            value = value[key]
        return value

    def _unexpected(self, keys: tuple[str, ...], value: Any, expected: str) -> DatasetError:
        shown = json.dumps(value)
        shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        return DatasetError(f"line {self._number}: {'.'.join(keys)} is {shown}; expected {expected}", file=self._path)
