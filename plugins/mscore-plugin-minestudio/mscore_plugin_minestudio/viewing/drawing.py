"""Drawing what a dataset knows of a frame: pressed keys, the camera's movement, objects and events."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.modalities.events import short_name
from mscore_plugin_minestudio.storage.layout import ACTION_KEYS, CAMERA_KEY

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

PANEL_WIDTH = 240
STRIP_HEIGHT = 56
"""Pixels beside the picture for the action, and below it for text."""

LEAST_HEIGHT = 360
"""Smaller pictures are enlarged to at least this, by whole numbers."""

FULL_TURN = 10.0
"""Degrees a frame at which the camera's arrow reaches the border; VPT's actions end there too."""

_BACKGROUND: Colour = (24, 24, 28)
_FAINT: Colour = (96, 96, 104)
_BRIGHT: Colour = (235, 235, 235)
_PRESSED: Colour = (250, 190, 60)

OBJECT_COLOURS: tuple[Colour, ...] = (
    (230, 60, 60), (60, 200, 90), (70, 130, 250), (240, 200, 60), (200, 90, 230), (70, 210, 220), (250, 140, 60),
)  # fmt: skip
"""Of the outlines, by kind of interaction (``obj_id`` 0 to 6)."""

_WIDE = 76
_CAPS: dict[str, tuple[str, int, int, int]] = {
    "drop": ("Q drop", 4, 8, _WIDE),
    "forward": ("W", 82, 8, _WIDE),
    "inventory": ("E inv", 160, 8, _WIDE),
    "left": ("A", 4, 38, _WIDE),
    "back": ("S", 82, 38, _WIDE),
    "right": ("D", 160, 38, _WIDE),
    "sneak": ("sneak", 4, 68, _WIDE),
    "jump": ("jump", 82, 68, _WIDE),
    "sprint": ("sprint", 160, 68, _WIDE),
    "attack": ("attack", 4, 98, 115),
    "use": ("use", 121, 98, 115),
    **{f"hotbar.{number}": (str(number), 4 + 26 * (number - 1), 128, 24) for number in range(1, 10)},
}
"""Flag to its label and place in the panel: left, top, width."""

_CAP_HEIGHT = 26
_FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.45)
_DIAL = (PANEL_WIDTH // 2, 232, 62)


class Interaction(NamedTuple):
    """An object that is interacted with.

    Attributes:
        kind: ``obj_id``, 0 to 6.
        event: name of the event that the interaction ends in.
        mask: (360, 640) of 0 and 1.
        point: row and column in a picture of 360x640; None if it is not known.
    """

    kind: int
    event: str
    mask: Picture
    point: tuple[int, int] | None


def canvas_for(picture: Picture) -> tuple[Picture, Picture]:
    """A canvas with the picture on it, enlarged if it is small.

    Args:
        picture: (height, width, 3) uint8, RGB.

    Returns:
        The canvas, with even sides, and the view of it that shows the picture.
    """
    scale = -(-LEAST_HEIGHT // picture.shape[0]) if picture.shape[0] < LEAST_HEIGHT else 1
    height, width = scale * picture.shape[0], scale * picture.shape[1]
    canvas = np.full(
        ((height + STRIP_HEIGHT + 1) // 2 * 2, (width + PANEL_WIDTH + 1) // 2 * 2, 3), _BACKGROUND, np.uint8
    )
    view = canvas[:height, :width]
    view[:] = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    return canvas, view


def draw_action(canvas: Picture, left: int, action: Mapping[str, NDArray[Any]]) -> None:
    """Draw one frame's action into the panel; one that is not of Minecraft as text.

    Args:
        canvas: to draw on.
        left: first column of the panel.
        action: by name, without the dimension of time.
    """
    if not all(key in action for key in ACTION_KEYS):
        text = [f"{name} {_short(value)}" for name, value in action.items()]
        for row, line in enumerate(text[: (canvas.shape[0] - STRIP_HEIGHT) // 18]):
            write(canvas, line, left + 6, 20 + 18 * row)
        return
    for key, (label, x, y, width) in _CAPS.items():
        pressed = bool(action[key])
        corner = (left + x, y)
        opposite = (left + x + width, y + _CAP_HEIGHT)
        cv2.rectangle(canvas, corner, opposite, _PRESSED if pressed else _FAINT, cv2.FILLED if pressed else 1)
        write(canvas, label, corner[0] + 5, y + 18, _BACKGROUND if pressed else _FAINT)
    pitch, yaw = (float(angle) for angle in action[CAMERA_KEY])
    x, y, radius = left + _DIAL[0], _DIAL[1], _DIAL[2]
    cv2.circle(canvas, (x, y), radius, _FAINT, 1, cv2.LINE_AA)
    reach = radius / FULL_TURN * np.clip([yaw, pitch], -FULL_TURN, FULL_TURN)
    tip = (x + round(reach[0]), y + round(reach[1]))
    moves = bool(pitch or yaw)
    if moves:
        cv2.arrowedLine(canvas, (x, y), tip, _PRESSED, 2, cv2.LINE_AA, tipLength=0.25)
    write(canvas, f"yaw {yaw:+.1f}  pitch {pitch:+.1f}", left + 40, y + radius + 20, _BRIGHT if moves else _FAINT)


def draw_interactions(view: Picture, interactions: Sequence[Interaction]) -> None:
    """Outline the objects, each with its point and its event.

    Args:
        view: the picture on the canvas.
        interactions: of this frame.
    """
    height, width = view.shape[:2]
    outlined = np.ascontiguousarray(view)
    for number, interaction in enumerate(interactions):
        colour = OBJECT_COLOURS[interaction.kind % len(OBJECT_COLOURS)]
        mask = cv2.resize(interaction.mask, (width, height), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(outlined, contours, -1, colour, 2, cv2.LINE_AA)
        x, y = 4, 16 + 18 * number
        if interaction.point is not None:
            rows, columns = interaction.mask.shape
            x, y = interaction.point[1] * width // columns, interaction.point[0] * height // rows
            cv2.circle(outlined, (x, y), 4, colour, cv2.FILLED, cv2.LINE_AA)
        label = short_name(interaction.event)
        x = max(min(x + 8, width - 4 - cv2.getTextSize(label, *_FONT, 1)[0][0]), 0)
        write(outlined, label, x, max(y - 8, 14), colour, edge=True)
    view[:] = outlined


def draw_texts(canvas: Picture, top: int, lines: Sequence[str]) -> None:
    """Write lines below the picture."""
    for row, line in enumerate(lines):
        write(canvas, line, 6, top + 20 + 22 * row, _BRIGHT)


def write(canvas: Picture, text: str, x: int, y: int, colour: Colour = _BRIGHT, edge: bool = False) -> None:
    """Write text; ``y`` is its base line."""
    for shade, thickness in ([((0, 0, 0), 3)] if edge else []) + [(colour, 1)]:
        cv2.putText(canvas, text, (x, y), *_FONT, shade, thickness, cv2.LINE_AA)


def _short(value: NDArray[Any]) -> str:
    numbers = np.asarray(value).ravel()
    shown = " ".join(f"{number:.3g}" for number in numbers[:6].tolist())
    return f"{shown} ..." if len(numbers) > 6 else shown
