"""Meta information: what the game said about each frame."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.storage.store import ModalityStore


class MetaInfoReader:
    """Reads the meta information of any frames. It may be sent to other processes.

    Args:
        store: the modality ``meta_info``.
    """

    def __init__(self, store: ModalityStore) -> None:
        self.store = store

    def read(self, episode: str, frames: NDArray[np.int64]) -> list[dict[str, Any]]:
        """What is known about some frames, a dict for each.

        Args:
            episode: the episode's name.
            frames: numbers of frames, ascending, at least one, (n,) int64.

        Raises:
            DatasetError: a chunk is missing or cannot be read, or does not hold a dict for each frame.
        """
        rows: list[dict[str, Any]] = []
        for span in self.store.spans(frames):
            chunk = self.store.load_chunk(episode, span.start)
            if type(chunk) is not list or len(chunk) != self.store.chunk_frames:
                size = f"{len(chunk)} frames" if type(chunk) is list else f"a {type(chunk).__name__}"
                raise self.store.error(episode, span.start, f"{size}; expected a list of {self.store.chunk_frames}")
            chosen = [chunk[number] for number in span.inside.tolist()]
            if any(type(row) is not dict or any(type(key) is not str for key in row) for row in chosen):
                raise self.store.error(episode, span.start, "a frame that is no dict of names to values")
            rows += chosen
        return rows


def columns(rows: Sequence[dict[str, Any]], length: int) -> dict[str, list[Any]]:
    """Frames as columns, as MineStudio's reader returns them.

    Args:
        rows: what is known about each frame; a frame that lacks a name has None there.
        length: frames of the columns; behind the rows they hold None.

    Returns:
        Name to the values of all frames.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    padding = [None] * (length - len(rows))
    return {name: [row.get(name) for row in rows] + padding for name in names}
