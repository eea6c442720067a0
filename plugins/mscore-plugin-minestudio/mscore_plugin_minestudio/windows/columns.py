"""The columns of a batch: one modality each, row by row, padded as MineStudio pads it."""

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from mscore_plugin_minestudio.frames.reader import ImageReader, Request
from mscore_plugin_minestudio.modalities.actions import ActionReader, to_agent_action
from mscore_plugin_minestudio.modalities.meta_info import MetaInfoReader, columns
from mscore_plugin_minestudio.modalities.segmentation import SegmentationReader, Segments
from mscore_plugin_minestudio.storage.layout import DatasetError
from mscore_plugin_minestudio.storage.stored_spaces import padding_action, unflatten_action

Frames = NDArray[np.int64]


class Column(ABC):
    """One modality of the rows of a batch; a row that is not read is all padding.

    Args:
        rows: of the batch.
        length: frames of a window.
    """

    def __init__(self, rows: int, length: int) -> None:
        self.rows = rows
        self.length = length

    @abstractmethod
    def read(self, row: int, episode: str, frames: Frames) -> None:
        """Read a row.

        Args:
            row: number of the row.
            episode: the episode's name.
            frames: numbers of its first frames, ascending, at least one and at most ``length``.

        Raises:
            DatasetError: they cannot be read.
        """

    @abstractmethod
    def drop(self, row: int) -> None:
        """Let a row be all padding, although it was read."""

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """The column's part of the batch."""


class ImageColumn(Column):
    """``image`` (B, T, H, W, 3) uint8, RGB; frames that there are not are black.

    Rows are noted by :meth:`read` and read together by :meth:`read_all`, in parallel.
    """

    def __init__(self, rows: int, length: int, reader: ImageReader) -> None:
        super().__init__(rows, length)
        self._reader = reader
        self._images = allocate((rows, length, reader.height, reader.width, 3))
        self._requests: dict[int, Request] = {}

    def read(self, row: int, episode: str, frames: Frames) -> None:
        """Note a row."""
        self._requests[row] = (episode, frames, self._images[row, : len(frames)].numpy())

    def drop(self, row: int) -> None:
        """Forget a row."""
        self._requests.pop(row, None)

    def read_all(self) -> None:
        """Read the rows that were noted.

        Raises:
            DatasetError: one of them cannot be read.
        """
        self._reader.read_into(list(self._requests.values()))

    def read_each(self) -> dict[int, DatasetError]:
        """Read the rows one by one, and say which cannot be read."""
        errors = {}
        for row, request in self._requests.items():
            try:
                self._reader.read_into([request])
            except DatasetError as error:
                errors[row] = error
        return errors

    def content(self) -> dict[str, Any]:
        """The images."""
        for row in range(self.rows):
            read = len(self._requests[row][1]) if row in self._requests else 0
            self._images[row, read:] = 0
        return {"image": self._images}


class ActionColumn(Column):
    """``env_action`` as stored, and ``agent_action`` as policies choose it; 0 where there is no frame, or the least
    that the action space of another environment than Minecraft has.

    With ``prev_action`` also ``env_prev_action`` and ``agent_prev_action``, those of the row's frame before,
    which for a window's first frame is in the window before; 0 before an episode begins.
    """

    def __init__(
        self,
        rows: int,
        length: int,
        reader: ActionReader,
        *,
        stride: int,
        prev_action: bool,
        action_space: gymnasium.Space[Any] | None,
    ) -> None:
        super().__init__(rows, length)
        self._reader = reader
        self._stride = stride
        self._before = 1 if prev_action else 0
        size = (rows, length + self._before)
        self._arrays = {key: np.zeros((*size, *part.shape), part.dtype) for key, part in reader.spec.items()}
        self._action_space = action_space
        self._padding = {} if action_space is None else padding_action(action_space)
        for key in self._padding.keys() & self._arrays.keys():
            self._arrays[key][...] = self._padding[key]

    def read(self, row: int, episode: str, frames: Frames) -> None:
        """Read a row's actions."""
        stop = self._before + len(frames)
        if self._before and frames[0] >= self._stride:
            frames = np.concatenate(([frames[0] - self._stride], frames))
        for key, values in self._reader.read(episode, frames).items():
            self._arrays[key][row, stop - len(frames) : stop] = values

    def drop(self, row: int) -> None:
        """Set a row to padding."""
        for key, array in self._arrays.items():
            array[row] = self._padding.get(key, 0)

    def content(self) -> dict[str, Any]:
        """The actions."""
        content = self._parts("action", self._before, None)
        return content | (self._parts("prev_action", 0, -1) if self._before else {})

    def _parts(self, name: str, start: int, stop: int | None) -> dict[str, Any]:
        arrays = {key: np.ascontiguousarray(array[:, start:stop]) for key, array in self._arrays.items()}
        content = {f"env_{name}": _tensors(arrays)}
        if self._action_space is not None:
            content[f"agent_{name}"] = _tensors(unflatten_action(self._action_space, arrays))
        elif self._reader.is_minecraft:
            content[f"agent_{name}"] = _tensors(to_agent_action(arrays))
        return content


def _tensors(arrays: Any) -> Any:
    if isinstance(arrays, dict):
        return {key: _tensors(array) for key, array in arrays.items()}
    return torch.from_numpy(arrays)


class MetaInfoColumn(Column):
    """``meta_info``: for every key B lists of T values; None where there is no frame."""

    def __init__(self, rows: int, length: int, reader: MetaInfoReader) -> None:
        super().__init__(rows, length)
        self._reader = reader
        self._read: dict[int, list[dict[str, Any]]] = {}

    def read(self, row: int, episode: str, frames: Frames) -> None:
        """Read a row's meta information."""
        self._read[row] = self._reader.read(episode, frames)

    def drop(self, row: int) -> None:
        """Forget a row."""
        self._read.pop(row, None)

    def content(self) -> dict[str, Any]:
        """The meta information; its keys are those of any row."""
        rows = [columns(self._read.get(row, []), self.length) for row in range(self.rows)]
        keys = dict.fromkeys(key for row in rows for key in row) or self._usual_keys()
        return {"meta_info": {key: [row.get(key, [None] * self.length) for row in rows] for key in keys}}

    def _usual_keys(self) -> list[str]:
        """The keys of any frame that can be read, for batches that have none."""
        for episode in self._reader.store.episodes:
            try:
                return list(self._reader.read(episode, np.zeros(1, np.int64))[0])
            except DatasetError:
                continue
        return []


class SegmentationColumn(Column):
    """``segmentation``: what :class:`~mscore_plugin_minestudio.modalities.segmentation.Segments` says, and ``obj_mask``
    (B, T, H, W) uint8. Where there is no frame, everything is as where there is no interaction, but ``obj_id`` 0.
    """

    def __init__(self, rows: int, length: int, reader: SegmentationReader, *, seed: int) -> None:
        super().__init__(rows, length)
        self._reader = reader
        self._seed = seed
        self._masks = allocate((rows, length, reader.height, reader.width)).zero_()
        self._segments: dict[int, Segments] = {}

    def read(self, row: int, episode: str, frames: Frames) -> None:
        """Read a row's segmentation; which object is followed depends on nothing but seed, episode and place."""
        choice = random.Random(f"{self._seed}/{episode}/{frames[0]}")
        masks = self._masks[row, : len(frames)].numpy()
        self._segments[row] = self._reader.read_into(episode, frames, masks, choice)

    def drop(self, row: int) -> None:
        """Forget a row."""
        self._segments.pop(row, None)
        self._masks[row] = 0

    def content(self) -> dict[str, Any]:
        """The segmentation."""
        padding = Segments.empty(self.length)
        padding.obj_id[:] = 0
        columns: dict[str, Any] = {}
        for name, fill in padding._asdict().items():
            rows = [getattr(self._segments[row], name) if row in self._segments else [] for row in range(self.rows)]
            padded = [_padded(read, fill) for read in rows]
            columns[name] = padded if isinstance(fill, list) else torch.from_numpy(np.stack(padded))
        return {"segmentation": {"obj_id": columns.pop("obj_id"), "obj_mask": self._masks, **columns}}


def _padded(read: Sequence[Any], fill: Any) -> Any:
    if isinstance(fill, list):
        return [*read, *fill[len(read) :]]
    return np.concatenate((read, fill[len(read) :])) if len(read) else fill


def allocate(shape: tuple[int, ...]) -> torch.Tensor:
    """Bytes of any value; in a worker process of a loader in memory that the training process shares."""
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(shape, np.uint8))
    # What torch's own collation does: a batch that is made elsewhere is copied there on its way.
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)), device="cpu")  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
