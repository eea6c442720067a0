"""Writing datasets in MineStudio's layout."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mscore import MscoreError
from mscore_plugin_minestudio.frames.encoding import FPS
from mscore_plugin_minestudio.storage.layout import CHUNK_FRAMES, DatasetError
from mscore_plugin_minestudio.writing.chunk_buffers import (
    ActionBuffer,
    ChunkBuffer,
    ImageBuffer,
    RecordBuffer,
    check_size,
)
from mscore_plugin_minestudio.writing.part import PartEnvironment

STORED_SIZE = (224, 224)
"""Width and height of the frames that MineStudio's converter stores."""

DRAFT_SUFFIX = ".draft"
"""Folders in a dataset that end so hold a part that is being written, or that a killed process left."""


@dataclass(frozen=True)
class WrittenEpisode:
    """An episode as it was stored.

    Attributes:
        name: its name.
        frames: stored frames, without padding.
        dropped: frames at its end that fill no chunk and were left out.
    """

    name: str
    frames: int
    dropped: int


class DatasetWriter:
    """Writes episodes into a new part of a dataset, as MineStudio's converter does.

    A context manager: the part appears in ``root`` when the block ends, and does not when it raises. Until then
    it is in a draft folder, which readers pass over. Every modality that an episode is given is written to
    ``<root>/<modality>/<part>``; an episode of less than a whole chunk is left out, as there.

    ```python
    with DatasetWriter("data/mine", "part-1") as writer, writer.episode("walk") as episode:
        episode.extend(image=frames, action=actions)
    ```

    Args:
        root: the dataset's folder; made if there is none.
        part: the part's name; MineStudio's converter calls them ``part-1`` and so on.
        image_size: width and height of the stored frames, even numbers; None stores them as they come.
        fps: frames per second of the stored videos; readers take no notice of it.
        keep_tail: keep the frames after the last whole chunk too. The chunk is filled up (the last picture
            again, actions of zero), and the number of real frames is written down where mscore's reader looks;
            MineStudio's own reader sees the filling as frames.

    Attributes:
        episodes: what was written so far.

    Raises:
        DatasetError: the part exists already, or the size is odd.
        MscoreError: here and on writing: the disk is full, or what else keeps the folder from being written.
    """

    def __init__(
        self,
        root: str | Path,
        part: str,
        *,
        image_size: tuple[int, int] | None = STORED_SIZE,
        fps: int = FPS,
        keep_tail: bool = False,
    ) -> None:
        self.root = Path(root)
        self.part = part
        self.episodes: list[WrittenEpisode] = []
        self._image_size = image_size
        self._fps = fps
        self._keep_tail = keep_tail
        self._environments: dict[str, PartEnvironment] = {}
        if image_size is not None:
            check_size(*image_size)
        existing = sorted(self.root.glob(f"*/{part}"))
        if existing:
            raise DatasetError("exists already; choose another name for the part", file=existing[0])
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._draft = Path(tempfile.mkdtemp(prefix=f".{part}.", suffix=DRAFT_SUFFIX, dir=self.root))
        except OSError as error:
            raise MscoreError(f"{self.root} cannot be written ({error})") from error

    @contextmanager
    def episode(self, name: str) -> Iterator["EpisodeWriter"]:
        """Write an episode; its frames go to the writer that this yields.

        If the block raises, the episode is left out of the part.

        Raises:
            DatasetError: there is one of this name already.
        """
        if not name or any(episode.name == name for episode in self.episodes):
            raise DatasetError("expected a name that no other episode has", file=self.root, episode=name)
        writer = EpisodeWriter(name, self._environment, self._image_size, self._fps)
        try:
            yield writer
            episode = writer.finish(self._keep_tail)
        except BaseException:
            for environment in self._environments.values():
                environment.drop_episode()
            raise
        self.episodes.append(episode)

    def close(self) -> None:
        """Make the part appear in the dataset.

        Raises:
            MscoreError: the disk is full; what was written is removed.
        """
        try:
            for environment in self._environments.values():
                environment.finish()
        except MscoreError:
            self.abandon()
            raise
        for modality, environment in self._environments.items():
            if environment.episodes:
                (self.root / modality).mkdir(exist_ok=True)
                os.rename(self._draft / modality, self.root / modality / self.part)
        shutil.rmtree(self._draft)

    def abandon(self) -> None:
        """Remove what was written."""
        for environment in self._environments.values():
            environment.abandon()
        shutil.rmtree(self._draft, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _environment(self, modality: str) -> "PartEnvironment":
        if modality not in self._environments:
            self._environments[modality] = PartEnvironment(self._draft / modality)
        return self._environments[modality]


class EpisodeWriter:
    """Takes the frames of one episode in portions; :meth:`DatasetWriter.episode` makes it.

    Attributes:
        name: the episode's name.
        frames: frames so far.
    """

    def __init__(
        self, name: str, environment: Callable[[str], PartEnvironment], image_size: tuple[int, int] | None, fps: int
    ) -> None:
        self.name = name
        self.frames = 0
        self._environment = environment
        self._buffers: dict[str, ChunkBuffer] = {}
        self._new_buffer: dict[str, Callable[[], ChunkBuffer]] = {
            "image": lambda: ImageBuffer(image_size, fps),
            "action": ActionBuffer,
            "meta_info": lambda: RecordBuffer("meta_info"),
            "segmentation": lambda: RecordBuffer("segmentation", padding={}),
        }

    def extend(
        self,
        *,
        image: NDArray[np.uint8] | None = None,
        action: Mapping[str, NDArray[Any]] | None = None,
        meta_info: Sequence[dict[str, Any]] | None = None,
        segmentation: Sequence[dict[Any, Any]] | None = None,
    ) -> None:
        """Append T frames, in every modality that the episode has.

        Args:
            image: (T, height, width, 3) uint8, RGB.
            action: by name, arrays (T, …) of numbers; for Minecraft the 21 of
                :data:`~mscore_plugin_minestudio.storage.layout.ACTION_KEYS`.
            meta_info: a dict of plain data for each frame.
            segmentation: a dict for each frame, ``(interaction, event)`` to what is known of the object.

        Raises:
            DatasetError: a modality is missing that the episode has, the numbers of frames differ, or a value
                is not what the modality stores.
        """
        rows = {"image": image, "action": action, "meta_info": meta_info, "segmentation": segmentation}
        given = {modality: value for modality, value in rows.items() if value is not None}
        if not self._buffers:
            self._buffers = {modality: self._new_buffer[modality]() for modality in given}
        if not given or given.keys() != self._buffers.keys():
            raise DatasetError(
                f"frames with {', '.join(given) or 'nothing'} after frames with "
                f"{', '.join(self._buffers) or 'nothing'}; expected the same modalities throughout an episode",
                episode=self.name,
            )
        try:
            counts = {modality: self._buffers[modality].extend(value) for modality, value in given.items()}
        except DatasetError as error:
            raise DatasetError(error.problem, episode=self.name) from error
        if len(set(counts.values())) > 1:
            raise DatasetError(f"different numbers of frames: {counts}", episode=self.name)
        self.frames += next(iter(counts.values()), 0)
        self._flush()

    def finish(self, keep_tail: bool) -> WrittenEpisode:
        """Write down the episode, and say what became of it."""
        tail = self.frames % CHUNK_FRAMES
        if tail and keep_tail:
            for buffer in self._buffers.values():
                buffer.pad()
            self._flush()
        stored = self.frames if keep_tail else self.frames - tail
        if stored:
            for modality in self._buffers:
                self._environment(modality).end_episode(self.name, stored)
        return WrittenEpisode(self.name, stored, self.frames - stored)

    def _flush(self) -> None:
        for modality, buffer in self._buffers.items():
            while buffer.frames >= CHUNK_FRAMES:
                self._environment(modality).append_chunk(buffer.pop())
