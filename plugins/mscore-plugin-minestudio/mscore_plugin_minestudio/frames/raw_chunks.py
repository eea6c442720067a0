"""Chunks of raw frames, as ``mscore data transcode --as raw`` writes them.

:data:`MAGIC`, then frames, height and width as little-endian 32-bit numbers, then the frames: RGB, a byte a
channel, row by row. MineStudio's own reader does not read them.
"""

from struct import Struct

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.frames.mp4 import VideoError

MAGIC = b"mscore raw frames v1"

_HEAD = Struct("<3I")


def pack(frames: NDArray[np.uint8]) -> bytes:
    """The payload of frames.

    Args:
        frames: (T, height, width, 3) uint8, RGB.
    """
    return MAGIC + _HEAD.pack(*frames.shape[:3]) + frames.tobytes()


def unpack(raw: bytes | memoryview) -> NDArray[np.uint8]:
    """The frames of a payload, (T, height, width, 3) uint8; they share its memory.

    Raises:
        VideoError: it is truncated, or not as :func:`pack` writes it.
    """
    start = len(MAGIC) + _HEAD.size
    if len(raw) < start:
        raise VideoError("its raw frames are truncated")
    frames, height, width = _HEAD.unpack_from(raw, len(MAGIC))
    expected = start + frames * height * width * 3
    if len(raw) != expected or not frames * height * width:
        raise VideoError(f"its raw frames have {len(raw)} bytes: expected {expected}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(frames, height, width, 3)
