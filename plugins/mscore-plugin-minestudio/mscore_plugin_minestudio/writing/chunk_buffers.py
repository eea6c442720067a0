"""From frames of an episode, in whatever portions they come, to payloads of whole chunks."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from mscore_plugin_minestudio.frames.encoding import encode_chunk
from mscore_plugin_minestudio.storage.layout import CHUNK_FRAMES, DatasetError
from mscore_plugin_minestudio.storage.payloads import dump_payload

T = TypeVar("T")


class ChunkBuffer(ABC):
    """Holds the frames of one modality that do not fill a chunk yet."""

    frames = 0
    """Frames in the buffer."""

    @abstractmethod
    def extend(self, rows: Any) -> int:
        """Append frames.

        Returns:
            How many.

        Raises:
            DatasetError: they are not what this modality stores.
        """

    @abstractmethod
    def pad(self) -> None:
        """Fill the chunk up with what a reader that takes no notice of padding can still decode."""

    @abstractmethod
    def pop(self) -> bytes:
        """Take the first chunk as a payload; it must be full."""


class ImageBuffer(ChunkBuffer):
    """Frames (T, H, W, 3) uint8, RGB; padded with the last.

    Args:
        size: width and height to store; None stores frames as they are.
        fps: frames per second of the stored videos.
    """

    def __init__(self, size: tuple[int, int] | None, fps: int) -> None:
        self._size = size
        self._fps = fps
        self._rows: np.ndarray | None = None

    def extend(self, rows: Any) -> int:  # noqa: D102
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 4 or rows.shape[3] != 3:
            raise DatasetError(f"image is {_describe(rows)}; expected a (T, height, width, 3) uint8 array")
        if self._rows is not None and self._rows.shape[1:] != rows.shape[1:]:
            raise DatasetError(f"frames of {rows.shape[1:3]} after frames of {self._rows.shape[1:3]} (height, width)")
        if self._size is None:
            check_size(rows.shape[2], rows.shape[1])
        self._rows = rows.copy() if self._rows is None else np.concatenate([self._rows, rows])
        self.frames = len(self._rows)
        return len(rows)

    def pad(self) -> None:  # noqa: D102
        assert self._rows is not None
        self._rows = np.concatenate([self._rows, self._rows[-1:].repeat(CHUNK_FRAMES - self.frames, axis=0)])
        self.frames = CHUNK_FRAMES

    def pop(self) -> bytes:  # noqa: D102
        assert self._rows is not None
        chunk, self._rows = self._rows[:CHUNK_FRAMES], self._rows[CHUNK_FRAMES:]
        self.frames -= CHUNK_FRAMES
        return encode_chunk(chunk, self._size or (chunk.shape[2], chunk.shape[1]), self._fps)


class ActionBuffer(ChunkBuffer):
    """Arrays (T, …) of numbers by name; padded with zeros."""

    def __init__(self) -> None:
        self._rows: dict[str, np.ndarray] = {}

    def extend(self, rows: Any) -> int:  # noqa: D102
        if not isinstance(rows, Mapping) or not rows:
            raise DatasetError(f"action is {_describe(rows)}; expected arrays by name")
        arrays = {name: np.asarray(array) for name, array in rows.items()}
        for name, array in arrays.items():
            if array.dtype.kind not in "biuf" or not array.ndim:
                raise DatasetError(f"action {name!r} is {_describe(array)}; expected a (T, …) array of numbers")
        lengths = {name: len(array) for name, array in arrays.items()}
        if len(set(lengths.values())) > 1:
            raise DatasetError(f"actions of different lengths: {lengths}")
        if not self._rows:
            self._rows = {name: array[:0] for name, array in arrays.items()}
        if (found := _signature(arrays)) != (expected := _signature(self._rows)):
            raise DatasetError(f"action {found} after {expected}; expected the same names, types and shapes")
        self._rows = {name: np.concatenate([self._rows[name], arrays[name]]) for name in self._rows}
        count = next(iter(lengths.values()))
        self.frames += count
        return count

    def pad(self) -> None:  # noqa: D102
        missing = CHUNK_FRAMES - self.frames
        self._rows = {
            name: np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
            for name, array in self._rows.items()
        }
        self.frames = CHUNK_FRAMES

    def pop(self) -> bytes:  # noqa: D102
        chunk = {name: array[:CHUNK_FRAMES].copy() for name, array in self._rows.items()}
        self._rows = {name: array[CHUNK_FRAMES:] for name, array in self._rows.items()}
        self.frames -= CHUNK_FRAMES
        return dump_payload(chunk)


class RecordBuffer(ChunkBuffer):
    """A dict of plain data for each frame.

    Args:
        modality: for messages.
        padding: what fills a chunk; None repeats the last record.
    """

    def __init__(self, modality: str, padding: dict[str, Any] | None = None) -> None:
        self._modality = modality
        self._padding = padding
        self._rows: list[dict[Any, Any]] = []

    def extend(self, rows: Any) -> int:  # noqa: D102
        if not isinstance(rows, Sequence) or not all(isinstance(row, dict) for row in rows):
            raise DatasetError(f"{self._modality} is {_describe(rows)}; expected a list of dicts, one for each frame")
        self._rows.extend(rows)
        self.frames = len(self._rows)
        return len(rows)

    def pad(self) -> None:  # noqa: D102
        padding = self._rows[-1] if self._padding is None else self._padding
        self._rows += [padding] * (CHUNK_FRAMES - self.frames)
        self.frames = CHUNK_FRAMES

    def pop(self) -> bytes:  # noqa: D102
        chunk, self._rows = self._rows[:CHUNK_FRAMES], self._rows[CHUNK_FRAMES:]
        self.frames = len(self._rows)
        return dump_payload(chunk)


def check_size(width: int, height: int) -> None:
    """Refuse a size that the stored video cannot have.

    Raises:
        DatasetError: a side is odd or not positive.
    """
    if width < 2 or height < 2 or width % 2 or height % 2:
        raise DatasetError(
            f"frames of {width}x{height} cannot be stored as they are: H.264 video needs even sides; "
            "choose an even size"
        )


def _signature(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    return {name: f"{array.dtype}{list(array.shape[1:])}" for name, array in arrays.items()}


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"a {value.shape} {value.dtype} array"
    return f"a {type(value).__name__}"
