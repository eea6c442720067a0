"""The pictures of a recording, with the mouse pointer that the recorder left out."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.conversion.pointer import draw_pointer
from mscore_plugin_minestudio.conversion.recorded_actions import VIDEO_SIZE
from mscore_plugin_minestudio.frames.encoding import FPS
from mscore_plugin_minestudio.storage.layout import DatasetError


def check_video(path: Path, rows: int) -> None:
    """Hold a video against what a recording must be, without decoding it.

    Args:
        path: the MP4 file.
        rows: lines of its actions; the video has as many frames, or one more.

    Raises:
        DatasetError: it cannot be read, or its rate, size or number of frames is another.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DatasetError("it has no picture; expected a video", file=path)
            stream = container.streams.video[0]
            rate, size = stream.average_rate, (stream.width, stream.height)
            frames = sum(packet.size > 0 for packet in container.demux(stream))
    except (av.error.FFmpegError, OSError) as error:
        raise DatasetError(f"it cannot be read as a video ({error})", file=path) from error
    if rate is None or abs(rate - FPS) > Fraction(1, 2):
        raise DatasetError(f"{float(rate or 0):g} frames per second; expected {FPS}", file=path)
    if size != VIDEO_SIZE:
        raise DatasetError("pictures of {}x{}; expected {}x{}".format(*size, *VIDEO_SIZE), file=path)
    if not rows <= frames <= rows + 1:
        raise DatasetError(f"{frames} frames, but {rows} lines of actions; expected as many, or one more", file=path)


def read_frames(
    path: Path, meta_info: Sequence[dict[str, Any]], keep: NDArray[np.bool_]
) -> Iterator[NDArray[np.uint8]]:
    """Decode the frames of a mask.

    Args:
        path: the MP4 file.
        meta_info: of every line; says where the pointer is.
        keep: (T,), which frames to give.

    Yields:
        (360, 640, 3) uint8, RGB, in order.

    Raises:
        DatasetError: a frame cannot be decoded; those before it were given.
    """
    number = 0
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            # The recordings are what is done in parallel.
            stream.thread_count = 1
            for frame in container.decode(stream):
                if number == len(keep):
                    break
                if frame.is_corrupt:
                    raise DatasetError(f"frame {number} is damaged", file=path)
                if keep[number]:
                    yield _picture(frame, meta_info[number])
                number += 1
    except (av.error.FFmpegError, OSError) as error:
        raise DatasetError(f"frame {number} cannot be decoded ({error})", file=path) from error
    if number < len(keep):
        raise DatasetError(f"it ends after {number} frames; expected {len(keep)}", file=path)


def _picture(frame: Any, info: dict[str, Any]) -> NDArray[np.uint8]:
    picture: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    if info["isGuiOpen"]:
        draw_pointer(picture, info["cursor_x"], info["cursor_y"])
    return picture
