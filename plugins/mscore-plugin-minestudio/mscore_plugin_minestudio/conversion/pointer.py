"""The mouse pointer, for pictures of open windows: recorders of the screen leave it out."""

import numpy as np
from numpy.typing import NDArray

_SHAPE = """
#
##
#o#
#oo#
#ooo#
#oooo#
#ooooo#
#oooooo#
#ooooooo#
#oooooooo#
#ooooo#####
#oo#oo#
#o# #oo#
##  #oo#
#    #oo#
     ###
"""


def _arrow() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    rows = _SHAPE.strip("\n").split("\n")
    width = max(map(len, rows))
    signs = np.array([list(row.ljust(width)) for row in rows])
    return np.where(signs == "o", np.uint8(255), np.uint8(0)), signs != " "


_COLOUR, _OPAQUE = _arrow()


def draw_pointer(picture: NDArray[np.uint8], x: int, y: int) -> None:
    """Draw a white arrow with a black edge onto a picture; what lies beyond its border is cut off.

    Args:
        picture: (height, width, 3) uint8; changed in place.
        x: column of the arrow's tip.
        y: row of the arrow's tip.
    """
    height, width = picture.shape[:2]
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + _OPAQUE.shape[0], height), min(x + _OPAQUE.shape[1], width)
    if top >= bottom or left >= right:
        return
    part = (slice(top - y, bottom - y), slice(left - x, right - x))
    picture[top:bottom, left:right][_OPAQUE[part]] = _COLOUR[part][_OPAQUE[part]][:, None]
