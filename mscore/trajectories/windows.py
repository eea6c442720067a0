"""Windows of episodes: their numbering, and the batches that are made of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mscore.errors import MscoreError

IDLE = -1
"""Window number of an idle row: a window without a valid frame."""

IDLE_EPISODE = ""
"""Name under which the windows of idle rows stand in a batch's ``episode``."""


class Windows:
    """The windows of a set of episodes, numbered episode by episode from 0.

    Episode ``e`` of ``n`` frames has ``ceil(n / window)`` windows; the last one may be shorter than the
    others.

    Args:
        lengths: frames of each episode, at least 1.
        window: frames of a window.

    Attributes:
        counts: windows of each episode, (episodes,) int64.
        offsets: number of each episode's first window, (episodes,) int64.

    Raises:
        MscoreError: no episode, an empty episode, or a window below 1.
    """

    def __init__(self, lengths: Sequence[int], window: int) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64).reshape(-1)
        self.window = int(window)
        if self.window < 1:
            raise MscoreError(f"a window of {window} frames: expected at least 1")
        if not len(self.lengths):
            raise MscoreError("there is no episode: the dataset, or this part of its split, is empty")
        if self.lengths.min() < 1:
            raise MscoreError(f"episode {int(self.lengths.argmin())} has no frames: leave it out")
        self.counts = -(-self.lengths // self.window)
        self.offsets = np.concatenate(([0], self.counts.cumsum()[:-1]))

    def __len__(self) -> int:
        return int(self.counts.sum())

    def locate(self, index: int) -> tuple[int, int, int]:
        """Episode, first frame and frame behind the last of a window.

        Raises:
            IndexError: there is no such window.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        episode = int(np.searchsorted(self.offsets, index, side="right")) - 1
        start = (index - int(self.offsets[episode])) * self.window
        return episode, start, min(start + self.window, int(self.lengths[episode]))


class BatchDataset(Dataset[dict[str, Any]], ABC):
    """A dataset that makes whole batches, of window numbers.

    Attributes:
        windows: how the windows lie in their episodes; None for windows that stand alone, which
            :class:`mscore.WindowBatchSampler` hands out.
    """

    windows: Windows | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Number of windows."""

    @abstractmethod
    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """The batch of these windows, in this order; torch's loader calls it with all of them.

        Args:
            indices: window numbers; :data:`IDLE` stands for a row without a valid frame.

        Returns:
            A batch (see ``docs/contracts.md``).
        """

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])


class WindowDataset(BatchDataset):
    """A dataset whose items are windows of episodes; subclasses only read frames.

    A batch (:meth:`__getitems__`, which torch's loader calls with a whole batch of window numbers) is what
    ``read`` gives, stacked to (B, T, …), with ``mask``, ``first``, ``timestamp`` and ``episode`` added. The
    frames behind an episode's end repeat its last frame, so that they hold valid observations and actions;
    their mask is false and their timestamps go on counting. A window number of :data:`IDLE` gives a row that
    repeats the dataset's first frame, with no valid frame, under the episode name ``""``, which no episode
    has; ``first`` is true at its start, so that no memory reaches it.

    Args:
        episodes: a name for each episode, all different.
        lengths: frames of each episode.
        window: frames of a window.

    Attributes:
        windows: the numbering of the windows.
    """

    windows: Windows

    def __init__(self, episodes: Sequence[str], lengths: Sequence[int], window: int) -> None:
        self.episodes = list(episodes)
        self.windows = Windows(lengths, window)
        if len(set(self.episodes)) != len(self.episodes) or IDLE_EPISODE in self.episodes:
            raise MscoreError("episode names must differ from each other and not be empty")
        self._idle_frame: dict[str, Any] | None = None

    @abstractmethod
    def read(self, episode: int, start: int, stop: int) -> dict[str, Any]:
        """Frames ``start`` to ``stop`` (exclusive) of an episode.

        Args:
            episode: position of the episode in ``episodes``.
            start: first frame.
            stop: frame behind the last; at most ``window`` frames later and within the episode.

        Returns:
            Observations by name and ``agent_action``, each an array (stop - start, …), a list of
            stop - start strings, or a dict or tuple of these.
        """

    def __len__(self) -> int:
        return len(self.windows)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """The batch of these windows, in this order."""
        window = self.windows.window
        rows, names, starts, frames = [], [], [], []
        for index in indices:
            if index == IDLE:
                rows.append(self._idle())
                names.append(IDLE_EPISODE)
                starts.append(0)
                frames.append(0)
                continue
            episode, start, stop = self.windows.locate(index)
            rows.append(self.read(episode, start, stop))
            names.append(self.episodes[episode])
            starts.append(start)
            frames.append(stop - start)
        place = torch.arange(window)
        first_frame = torch.tensor(starts)[:, None]
        batch = _stack(rows, window)
        batch["mask"] = place < torch.tensor(frames)[:, None]
        batch["first"] = (place == 0) & (first_frame == 0)
        batch["timestamp"] = first_frame + place
        batch["episode"] = names
        return batch  # type: ignore[no-any-return]

    def _idle(self) -> dict[str, Any]:
        if self._idle_frame is None:
            self._idle_frame = self.read(0, 0, 1)
        return self._idle_frame


def _stack(rows: list[Any], window: int) -> Any:
    """Rows of up to ``window`` frames as one array, each row padded with its last frame."""
    first = rows[0]
    if isinstance(first, dict):
        return {key: _stack([row[key] for row in rows], window) for key in first}
    if isinstance(first, tuple):
        return tuple(_stack([row[place] for row in rows], window) for place in range(len(first)))
    if isinstance(first, list):
        return [row + row[-1:] * (window - len(row)) for row in rows]
    arrays = [np.asarray(row) for row in rows]
    stacked = np.empty((len(rows), window, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
    for target, row in zip(stacked, arrays, strict=True):
        target[: len(row)] = row
        target[len(row) :] = row[-1]
    return torch.from_numpy(stacked)
