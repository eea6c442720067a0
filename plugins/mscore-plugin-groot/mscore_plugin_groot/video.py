"""Reference videos: their frames, and which of them each frame of a batch is to follow."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from mscore import MscoreError


def read_reference(path: str | Path, frames: int, height: int, width: int) -> torch.Tensor:
    """Read the first frames of a video.

    Args:
        path: a file that FFmpeg reads.
        frames: how many at most; a shorter video gives those that it has.
        height: pixels to which they are scaled.
        width: likewise.

    Returns:
        (n, height, width, 3) uint8.

    Raises:
        MscoreError: there is no such file, it is no video, or it has no frame.
    """
    try:
        with av.open(str(path)) as container:
            pictures = [
                frame.to_ndarray(format="rgb24", width=width, height=height)
                for frame in islice(container.decode(video=0), frames)
            ]
    except (OSError, av.error.FFmpegError, IndexError, ValueError) as error:
        raise MscoreError(f"the reference video {path} cannot be read: {error}") from error
    if not pictures:
        raise MscoreError(f"the reference video {path} has no frame")
    return torch.from_numpy(np.stack(pictures))


def references(given: Any, rows: int, steps: int) -> list[list[str]]:
    """The video that each frame follows.

    Args:
        given: a path for all; or B paths, one for each row; or B lists of T paths. One entry stands for all.
        rows: B.
        steps: T.

    Returns:
        B lists of T paths.

    Raises:
        MscoreError: it is none of these.
    """
    by_row = _spread(given, rows, "rows")
    return [[str(path) for path in _spread(row, steps, "frames")] for row in by_row]


def _spread(given: Any, count: int, what: str) -> Sequence[Any]:
    if isinstance(given, str | Path):
        return [given] * count
    if not isinstance(given, list | tuple) or len(given) not in (1, count):
        found = f"{len(given)} entries" if isinstance(given, list | tuple) else f"a {type(given).__name__}"
        raise MscoreError(f"ref_video_path has {found} for {count} {what}: expected a path, or one for each of them")
    return list(given) * (count // len(given))
