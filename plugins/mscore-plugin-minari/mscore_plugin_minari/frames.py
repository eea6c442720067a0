"""What a file of Minari holds of a space, as frames: arrays of the space's shape and dtype, or text."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mscore import MscoreError

Frames = Any
"""An array (frames, …), a list of strings, or a dict or tuple of these."""

Columns = Mapping[str, gymnasium.Space[Any]]
"""Spaces of what is stored of an episode, by Minari's names: ``observations``, ``actions``, ``rewards``, …"""


SMALLEST_PICTURE = 32
"""Pixels of a side. What is smaller, Minari does not hold for a picture, but for symbols, as MiniGrid's."""


def read_space(
    space: gymnasium.Space[Any],
    node: Any,
    where: str,
    child: Callable[[Any, str | int, str], Any],
    leaf: Callable[[gymnasium.Space[Any], Any, str], Frames],
) -> Frames:
    """Read every part of a space; Dict and Tuple spaces are nested as they are.

    Args:
        space: what is read.
        node: where it is stored.
        where: the same in words, for messages.
        child: gives the node of a part, from a node, the part's key or place, and words.
        leaf: reads a space that has no parts, from its node and words.
    """
    if isinstance(space, spaces.Dict):
        parts = {key: (part, f"{where}.{key}") for key, part in space.spaces.items()}
        return {key: read_space(part, child(node, key, at), at, child, leaf) for key, (part, at) in parts.items()}
    if isinstance(space, spaces.Tuple):
        placed = [(place, part, f"{where}.{place}") for place, part in enumerate(space.spaces)]
        return tuple(read_space(part, child(node, place, at), at, child, leaf) for place, part, at in placed)
    return leaf(space, node, where)


def may_be_jpeg(space: gymnasium.Space[Any]) -> bool:
    """True for spaces of pictures: Minari stores the pictures of some of them as JPEG files."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def as_frames(stored: NDArray[Any], space: gymnasium.Space[Any], where: str) -> NDArray[Any]:
    """Stored numbers as frames of a space: (n, *shape), of the space's dtype.

    Dimensions of size 1 may be missing or superfluous. Integers are not cut off to fit a smaller dtype, nor
    fractions to become integers.

    Raises:
        MscoreError: the numbers do not fit the space.
    """
    shape: tuple[int, ...] = space.shape or ()
    dtype = np.dtype(space.dtype)
    if [size for size in stored.shape[1:] if size != 1] != [size for size in shape if size != 1]:
        raise MscoreError(
            f"{where}: frames of shape {stored.shape[1:]}, expected {shape} as the dataset's metadata say: "
            "the dataset is damaged, or its metadata belong to another one"
        )
    if stored.dtype != dtype:
        stored = _converted(stored, dtype, where)
    return stored.reshape(len(stored), *shape)


def decode_jpegs(files: Sequence[bytes], space: gymnasium.Space[Any], where: str) -> NDArray[np.uint8]:
    """Pictures from JPEG files: (n, *shape) uint8.

    Raises:
        MscoreError: a file is no JPEG file, or of another size than the space, or the space is of symbols.
    """
    from PIL import Image

    shape: tuple[int, ...] = space.shape or ()
    if min(shape[:2]) < SMALLEST_PICTURE:
        raise MscoreError(
            f"{where}: frames of {shape} stored as JPEG, as Minari 0.5.3 did by mistake; that spoils symbols. "
            "Record them with a newer one"
        )
    pictures = np.empty((len(files), *shape), dtype=np.uint8)
    for place, file in enumerate(files):
        try:
            with Image.open(io.BytesIO(file), formats=("JPEG",)) as image:
                found = (image.height, image.width, *((len(image.getbands()),) if len(shape) == 3 else ()))
                if found == shape:
                    pictures[place] = np.asarray(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise MscoreError(f"{where}: a picture cannot be decoded ({error}): the file is damaged") from error
        if found != shape:
            raise MscoreError(f"{where}: a picture of shape {found}, expected {shape} as the dataset's metadata say")
    return pictures


def _converted(stored: NDArray[Any], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    allowed = "biuf" if dtype.kind == "f" else "biu"
    if stored.dtype.kind in allowed:
        frames = stored.astype(dtype)
        if dtype.kind == "f" or math.prod(stored.shape) == 0 or (frames == stored).all():
            return frames
    raise MscoreError(f"{where}: values of dtype {stored.dtype} that do not fit the space's {dtype}")
