"""Checking chunks of every modality by reading them, and saying what they hold."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.frames import raw_chunks
from mscore_plugin_minestudio.frames.decoding import Decoders
from mscore_plugin_minestudio.frames.mp4 import VideoError, read_track
from mscore_plugin_minestudio.inspection.action_statistics import ActionStatistics, ArrayStatistics, MinecraftStatistics
from mscore_plugin_minestudio.modalities.actions import ActionReader
from mscore_plugin_minestudio.modalities.meta_info import MetaInfoReader
from mscore_plugin_minestudio.modalities.segmentation import MASK_SHAPE, NO_OBJECT, SegmentationReader
from mscore_plugin_minestudio.storage.modality import ModalityStore


class ChunkCheck(Protocol):
    """Reads the chunks of one modality."""

    def read(self, episode: str, start: int) -> None:
        """Read a chunk and count what it holds.

        Raises:
            DatasetError: it is not as it should be.
        """
        ...

    def content(self) -> dict[str, Any]:
        """What the chunks hold, as plain data: names to numbers, text, or counts by name."""
        ...


class ImageCheck:
    """Decodes every frame of a chunk."""

    def __init__(self, store: ModalityStore) -> None:
        self._store = store
        self._decoders = Decoders()
        self._kinds: Counter[str] = Counter()
        self._bytes = 0

    def read(self, episode: str, start: int) -> None:
        """Decode a chunk; see :meth:`ChunkCheck.read`."""
        raw = self._store.read_chunk(episode, start)
        try:
            chunk = self._decoders.open(raw)
            try:
                kind = "raw" if raw.startswith(raw_chunks.MAGIC) else read_track(raw).codec
                if chunk.frames != self._store.chunk_frames:
                    raise VideoError(f"it holds {chunk.frames} frames; expected {self._store.chunk_frames}")
                frames = np.empty((chunk.frames, chunk.height, chunk.width, 3), np.uint8)
                chunk.read_into(range(chunk.frames), frames)
                self._kinds[f"{chunk.width}x{chunk.height} {kind}"] += 1
                self._bytes += len(raw)
            finally:
                chunk.close()
        except VideoError as error:
            raise self._store.error(episode, start, str(error)) from error

    def content(self) -> dict[str, Any]:
        """``forms``: size and form to chunks; ``bytes_per_frame``."""
        frames = self._kinds.total() * self._store.chunk_frames
        return {"forms": dict(self._kinds), "bytes_per_frame": round(self._bytes / frames) if frames else None}


class ActionCheck:
    """Reads the actions of a chunk, and counts them.

    Attributes:
        statistics: the counts; None while nothing could be read.
    """

    def __init__(self, store: ModalityStore) -> None:
        self._store = store
        self._reader = ActionReader(store)
        self.statistics: ActionStatistics | None = None

    def read(self, episode: str, start: int) -> None:
        """Read a chunk; see :meth:`ChunkCheck.read`."""
        actions = self._reader.read(episode, _frames(self._store, episode, start))
        if self.statistics is None:
            self.statistics = MinecraftStatistics() if self._reader.is_minecraft else ArrayStatistics()
        self.statistics.add(actions)

    def content(self) -> dict[str, Any]:
        """``kind``: ``minecraft`` or ``other``."""
        if self.statistics is None:
            return {}
        return {"kind": "minecraft" if self._reader.is_minecraft else "other"}


class MetaInfoCheck:
    """Reads the meta information of a chunk."""

    def __init__(self, store: ModalityStore) -> None:
        self._store = store
        self._reader = MetaInfoReader(store)
        self._names: dict[str, None] = {}

    def read(self, episode: str, start: int) -> None:
        """Read a chunk; see :meth:`ChunkCheck.read`."""
        for row in self._reader.read(episode, _frames(self._store, episode, start)):
            self._names.update(dict.fromkeys(row))

    def content(self) -> dict[str, Any]:
        """``names``: of what is known about frames."""
        return {"names": list(self._names)}


class SegmentationCheck:
    """Reads the interactions and masks of a chunk."""

    def __init__(self, store: ModalityStore) -> None:
        self._store = store
        height, width = MASK_SHAPE
        self._reader = SegmentationReader(store, width, height)
        self._frames = 0
        self._events: Counter[str] = Counter()

    def read(self, episode: str, start: int) -> None:
        """Read a chunk; see :meth:`ChunkCheck.read`."""
        frames = _frames(self._store, episode, start)
        masks = np.zeros((len(frames), *MASK_SHAPE), np.uint8)
        segments = self._reader.read_into(episode, frames, masks, random.Random(0))
        self._frames += len(frames)
        found = segments.obj_id != NO_OBJECT
        self._events.update(event for event, is_found in zip(segments.event, found, strict=True) if is_found)

    def content(self) -> dict[str, Any]:
        """``frames_with_object``: share of frames; ``events``: event to frames that lead to it."""
        share = self._events.total() / self._frames if self._frames else None
        return {"frames_with_object": share, "events": dict(self._events.most_common())}


CHECKS: dict[str, Callable[[ModalityStore], ChunkCheck]] = {
    "image": ImageCheck,
    "action": ActionCheck,
    "meta_info": MetaInfoCheck,
    "segmentation": SegmentationCheck,
}
"""Modality to what checks it."""


def _frames(store: ModalityStore, episode: str, start: int) -> NDArray[np.int64]:
    return np.arange(start, min(start + store.chunk_frames, store.episodes[episode].frames))
