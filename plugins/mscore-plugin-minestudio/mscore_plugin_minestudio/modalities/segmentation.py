"""Segmentation: which object an interaction is about, and where it is in the frames before.

A frame holds an entry for every interaction that it leads to, under ``(number, event)``. One of them is
followed: reading backwards, from the last frame of the last chunk that a window touches, an interaction is
picked where it ends and followed to where it begins. That is how MineStudio v1.1 reads it.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.modalities.events import short_name
from mscore_plugin_minestudio.storage.store import ModalityStore

MASK_SHAPE = (360, 640)
"""Height and width of stored masks, whatever the size of the frames."""

NO_OBJECT = -1
"""``obj_id`` of a frame without an interaction."""

_READ_AS = {0: 0, 1: 3, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}
"""Stored kinds of interaction to those that MineStudio's policies are trained with."""

_Entries = Mapping[tuple[Any, str], Mapping[str, Any]]


class Segments(NamedTuple):
    """What is known of n frames beside their masks.

    Attributes:
        obj_id: kind of interaction, (n,) int64; -1 for none.
        event: name of the event that the interaction ends in, n strings; ``""`` for none.
        point: row and column of the object as shares of the picture, (n, 2) float64; -1 for none.
        frame_id: the frame's number in the interaction's episode, (n,) int64; -1 for none.
        frame_range: first and last frame of the interaction, (n, 2) int64; -1 for none.
    """

    obj_id: NDArray[np.int64]
    event: list[str]
    point: NDArray[np.float64]
    frame_id: NDArray[np.int64]
    frame_range: NDArray[np.int64]

    @classmethod
    def empty(cls, frames: int) -> "Segments":
        """What is known of frames without an interaction."""
        return cls(
            np.full(frames, NO_OBJECT, np.int64),
            [""] * frames,
            np.full((frames, 2), -1.0),
            np.full(frames, -1, np.int64),
            np.full((frames, 2), -1, np.int64),
        )


class SegmentationReader:
    """Reads masks and what they are masks of.

    Args:
        store: the modality.
        width: of the masks that it gives.
        height: of the masks that it gives.
        event_constrain: follow only interactions that end in this event, named without ``minecraft.``
            (``"mine_block:oak_log"``); None follows any.
    """

    def __init__(self, store: ModalityStore, width: int, height: int, event_constrain: str | None = None) -> None:
        self.store = store
        self.width = width
        self.height = height
        self.event_constrain = event_constrain

    def read_into(
        self, episode: str, frames: NDArray[np.int64], masks: NDArray[np.uint8], choice: random.Random
    ) -> Segments:
        """Read frames of an episode.

        Args:
            episode: its name.
            frames: their numbers, ascending, at least one.
            masks: where the masks go, (n, height, width), all 0 before; 1 where the object is. They are resized
                by nearest neighbours.
            choice: picks where several interactions end at one frame.

        Raises:
            DatasetError: a chunk cannot be read, or is not what it should be.
        """
        size = self.store.chunk_frames
        first = int(frames[0]) // size * size
        starts = range(first, int(frames[-1]) + 1, size)
        entries = [entry for start in starts for entry in self._load(episode, start)]
        followed = _follow(entries, choice, self.event_constrain)
        segments = Segments.empty(len(frames))
        for place, frame in enumerate(frames.tolist()):
            key = followed[frame - first]
            if key is not None:
                try:
                    self._fill(segments, place, entries[frame - first][key], masks[place])
                except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
                    text = f"frame {frame}, interaction {key}: {error!r:.120}"
                    raise self.store.error(episode, frame // size * size, text) from error
        return segments

    def _fill(self, segments: Segments, place: int, entry: Mapping[str, Any], mask: NDArray[np.uint8]) -> None:
        segments.obj_id[place] = _READ_AS[entry["obj_id"]]
        segments.event[place] = str(entry["event"])
        if entry["point"] is not None:
            segments.point[place] = np.array(entry["point"]) / np.array(MASK_SHAPE, np.float64)
        segments.frame_id[place] = entry["frame_id"]
        segments.frame_range[place] = entry["frame_range"]
        stored = decode_mask(entry["rle_mask"])
        mask[:] = cv2.resize(stored, (self.width, self.height), interpolation=cv2.INTER_NEAREST)

    def _load(self, episode: str, start: int) -> list[_Entries]:
        chunk = self.store.load_chunk(episode, start)
        expected = self.store.chunk_frames
        if type(chunk) is not list or len(chunk) != expected:
            found = f"{len(chunk)} frames" if isinstance(chunk, list) else f"a {type(chunk).__name__}"
            raise self.store.error(episode, start, f"{found}; expected a list of {expected} frames")
        for frame in chunk:
            if type(frame) is not dict or not all(_is_interaction(key) for key in frame):
                raise self.store.error(episode, start, "a frame is no dict of (number, event) to what is known")
        return chunk


def decode_mask(text: str) -> NDArray[np.uint8]:
    """A stored mask: ``start length`` of each run of ones, row by row, the first pixel being 1.

    Returns:
        (360, 640) of 0 and 1.

    Raises:
        ValueError: it is no such text, or runs out of the picture.
    """
    mask = np.zeros(MASK_SHAPE[0] * MASK_SHAPE[1], np.uint8)
    numbers = np.array(text.split(), dtype=np.int64)
    if len(numbers) % 2:
        raise ValueError(f"a mask of {len(numbers)} numbers; expected pairs of start and length")
    starts = numbers[0::2] - 1
    stops = starts + numbers[1::2]
    if len(numbers) and (starts.min() < 0 or numbers[1::2].min() < 0 or stops.max() > len(mask)):
        raise ValueError(f"a mask that runs out of its {MASK_SHAPE[1]} x {MASK_SHAPE[0]} pixels")
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        mask[start:stop] = 1
    return mask.reshape(MASK_SHAPE)


def _follow(
    frames: Sequence[_Entries], choice: random.Random, event_constrain: str | None
) -> list[tuple[Any, str] | None]:
    """The interaction that is followed at every frame."""
    followed: list[tuple[Any, str] | None] = [None] * len(frames)
    current: tuple[Any, str] | None = None
    for place in reversed(range(len(frames))):
        entries = frames[place]
        if not entries:
            continue
        if current is None or current not in entries:
            ending = list(entries)
            if event_constrain is not None:
                current = next((key for key in ending if short_name(key[-1]) == event_constrain), None)
            else:
                current = choice.choice(ending)
        followed[place] = current
    return followed


def _is_interaction(key: object) -> bool:
    return isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], str)
