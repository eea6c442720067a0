"""Making batches: windows of every modality, side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

from mscore import IDLE_EPISODE
from mscore_plugin_minestudio.frames.reader import ImageReader
from mscore_plugin_minestudio.modalities.actions import ActionReader
from mscore_plugin_minestudio.modalities.meta_info import MetaInfoReader
from mscore_plugin_minestudio.modalities.segmentation import SegmentationReader
from mscore_plugin_minestudio.storage.layout import DatasetError
from mscore_plugin_minestudio.storage.store import Catalog
from mscore_plugin_minestudio.storage.stored_spaces import SPACES_FILE
from mscore_plugin_minestudio.windows.columns import (
    ActionColumn,
    Column,
    ImageColumn,
    MetaInfoColumn,
    SegmentationColumn,
)

UNREADABLE_KEY = "unreadable"
"""Batch key of what had to be left out: a list of :class:`Unreadable`."""


class Window(NamedTuple):
    """Where a row of a batch lies.

    Attributes:
        episode: the episode's name.
        start: its first frame.
        frames: how many of the window's frames the episode has, at least 1.
    """

    episode: str
    start: int
    frames: int


class Unreadable(NamedTuple):
    """A window that could not be read.

    Attributes:
        episode: the episode's name.
        start: the window's first frame.
        reason: what is wrong.
    """

    episode: str
    start: int
    reason: str


@dataclass(frozen=True)
class WindowFormat:
    """What the windows of a batch are like.

    Attributes:
        length: frames of a window.
        stride: every how many frames of the episode one is taken.
        width: pixels of a frame.
        height: pixels of a frame.
        prev_action: also give the action before each.
        event_constrain: the only event whose segmentation is given, as
            :class:`~mscore_plugin_minestudio.modalities.segmentation.SegmentationReader` has it.
        seed: which object is followed where the segmentation knows several.
        action_space: what the actions were chosen from; None for Minecraft's.
    """

    length: int
    stride: int = 1
    width: int = 128
    height: int = 128
    prev_action: bool = False
    event_constrain: str | None = None
    seed: int = 0
    action_space: gymnasium.Space[Any] | None = None


class BatchReader:
    """Reads windows into batches: what there is of the modalities of a catalogue, and padding.

    Args:
        catalog: the datasets.
        form: what windows are like.
        skip: a window that cannot be read becomes an idle row, and is listed under :data:`UNREADABLE_KEY`;
            otherwise the error is raised.

    Attributes:
        modalities: those that are read.

    Raises:
        DatasetError: the actions are of another environment than Minecraft, and ``form`` has no space of them.
    """

    def __init__(self, catalog: Catalog, form: WindowFormat, *, skip: bool) -> None:
        self.form = form
        self.skip = skip
        stores = catalog.stores
        self.modalities = tuple(stores)
        self._images = ImageReader(stores["image"], form.width, form.height) if "image" in stores else None
        self._actions = ActionReader(stores["action"]) if "action" in stores else None
        if self._actions is not None and form.action_space is None and not self._actions.is_minecraft:
            raise DatasetError(
                f"actions {', '.join(self._actions.spec)}, which are not Minecraft's, and no {SPACES_FILE} in the "
                "dataset's folder says what they were chosen from",
                file=self._actions.store.parts[0].file,
            )
        self._meta_info = MetaInfoReader(stores["meta_info"]) if "meta_info" in stores else None
        self._segmentation = (
            SegmentationReader(stores["segmentation"], form.width, form.height, form.event_constrain)
            if "segmentation" in stores
            else None
        )

    def read(self, windows: Sequence[Window | None]) -> dict[str, Any]:
        """The batch of some windows.

        Args:
            windows: a window for each row; None for an idle one.

        Returns:
            The columns of the modalities, ``mask`` (B, T) bool, ``timestamp`` (B, T) int64 in frames of the
            episode, and ``episode``.

        Raises:
            DatasetError: unless ``skip``, a window cannot be read.
        """
        columns = self._columns(len(windows))
        failed = self._read_rows(columns, windows)
        _drop(columns, failed)
        unseen = self._read_images(columns)
        _drop(columns, unseen)
        batch = {key: value for column in columns for key, value in column.content().items()}
        return batch | self._places(windows, failed | unseen)

    def _read_rows(self, columns: Sequence[Column], windows: Sequence[Window | None]) -> dict[int, DatasetError]:
        """Read row by row, but for the images; why rows that are left out could not be."""
        failed = {}
        for row, window in enumerate(windows):
            if window is None:
                continue
            frames = window.start + self.form.stride * np.arange(window.frames)
            try:
                for column in columns:
                    column.read(row, window.episode, frames)
            except DatasetError as error:
                if not self.skip:
                    raise
                failed[row] = error
        return failed

    def _read_images(self, columns: Sequence[Column]) -> dict[int, DatasetError]:
        """Read the images of all rows at once; why rows that are left out could not be."""
        failed: dict[int, DatasetError] = {}
        for column in columns:
            if isinstance(column, ImageColumn):
                try:
                    column.read_all()
                except DatasetError:
                    if not self.skip:
                        raise
                    # Some row's: which one it was shows when they are read one by one.
                    failed |= column.read_each()
        return failed

    def _columns(self, rows: int) -> list[Column]:
        form, columns = self.form, list[Column]()
        if self._images is not None:
            columns.append(ImageColumn(rows, form.length, self._images))
        if self._actions is not None:
            columns.append(
                ActionColumn(
                    rows,
                    form.length,
                    self._actions,
                    stride=form.stride,
                    prev_action=form.prev_action,
                    action_space=form.action_space,
                )
            )
        if self._meta_info is not None:
            columns.append(MetaInfoColumn(rows, form.length, self._meta_info))
        if self._segmentation is not None:
            columns.append(SegmentationColumn(rows, form.length, self._segmentation, seed=form.seed))
        return columns

    def _places(self, windows: Sequence[Window | None], failed: dict[int, DatasetError]) -> dict[str, Any]:
        """Where the rows lie, which of their frames there are, and what could not be read."""
        read = [None if row in failed else window for row, window in enumerate(windows)]
        place = torch.arange(self.form.length)
        starts = torch.tensor([0 if window is None else window.start for window in read])
        frames = torch.tensor([0 if window is None else window.frames for window in read])
        places: dict[str, Any] = {
            "mask": place < frames[:, None],
            "timestamp": starts[:, None] + self.form.stride * place,
            "episode": [IDLE_EPISODE if window is None else window.episode for window in read],
        }
        if failed:
            lost = [(windows[row], error) for row, error in failed.items()]
            places[UNREADABLE_KEY] = [
                Unreadable(window.episode, window.start, str(error)) for window, error in lost if window is not None
            ]
        return places


def _drop(columns: Sequence[Column], rows: Iterable[int]) -> None:
    for row in rows:
        for column in columns:
            column.drop(row)
