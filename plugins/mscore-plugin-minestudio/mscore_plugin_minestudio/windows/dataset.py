"""The datasets of the two modes: whole episodes as windows, and windows that lead to events."""

import random
from collections.abc import Sequence
from typing import Any

import torch

from mscore import IDLE, IDLE_EPISODE, BatchDataset, Windows
from mscore_plugin_minestudio.modalities.events import Event, window_start
from mscore_plugin_minestudio.storage.store import Episode
from mscore_plugin_minestudio.windows.batches import BatchReader, Window


def split_episodes(
    episodes: Sequence[Episode], split_ratio: float, shuffle: bool, seed: int
) -> tuple[list[Episode], list[Episode]]:
    """The episodes to train on and those held out, as MineStudio splits them.

    Args:
        episodes: all of them, sorted by name.
        split_ratio: share that is trained on, rounded down.
        shuffle: shuffle them before.
        seed: of the shuffling.
    """
    order = list(episodes)
    if shuffle:
        random.Random(seed).shuffle(order)
    divider = int(len(order) * split_ratio)
    return order[:divider], order[divider:]


class RawDataset(BatchDataset):
    """Whole episodes, cut into windows that follow each other.

    An episode's windows begin every ``length * stride`` frames; the last may be padded. A batch is what
    :class:`~mscore_plugin_minestudio.windows.batches.BatchReader` reads, with ``first``, ``text`` (``"raw"``),
    ``progress`` (``"number/windows of the episode"``), and ``<modality>_mask``, which are copies of ``mask``.

    Args:
        reader: reads the windows.
        episodes: the episodes, at least one.
        continuous: rows go on from batch to batch, so that ``first`` is true where an episode begins; else it is
            true where any window begins.

    Attributes:
        episodes: as given.
        windows: the numbering of the windows.

    Raises:
        MscoreError: there is no episode.
    """

    windows: Windows

    def __init__(self, reader: BatchReader, episodes: Sequence[Episode], *, continuous: bool) -> None:
        self.reader = reader
        self.episodes = list(episodes)
        self.continuous = continuous
        stride = reader.form.stride
        self.windows = Windows([-(-episode.frames // stride) for episode in episodes], reader.form.length)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """The batch of these windows, in this order."""
        batch = self.reader.read([None if index == IDLE else self._window(index) for index in indices])
        batch["first"] = _first(batch["timestamp"], self.continuous)
        played = list(zip(batch["episode"], indices, strict=True))
        batch["text"] = ["" if episode == IDLE_EPISODE else "raw" for episode, _ in played]
        batch["progress"] = ["" if episode == IDLE_EPISODE else self._progress(index) for episode, index in played]
        for modality in self.reader.modalities:
            batch[f"{modality}_mask"] = batch["mask"].clone()
        return batch

    def _window(self, index: int) -> Window:
        number, start, stop = self.windows.locate(index)
        return Window(self.episodes[number].name, start * self.reader.form.stride, stop - start)

    def _progress(self, index: int) -> str:
        episode, start, _ = self.windows.locate(index)
        return f"{start // self.windows.window}/{self.windows.counts[episode]}"


class EventDataset(BatchDataset):
    """Windows that lead to events, one for each event.

    They stand alone, so ``first`` is true where each begins. A batch is what
    :class:`~mscore_plugin_minestudio.windows.batches.BatchReader` reads, in single precision, with ``text``, the
    event's name without ``minecraft.``.

    Args:
        reader: reads the windows.
        episodes: the episodes that may be used.
        events: the events; those of other episodes are passed over.
        bias: frames by which the windows are moved, see
            :func:`~mscore_plugin_minestudio.modalities.events.window_start`.

    Attributes:
        events: those of the windows, in their order.
    """

    def __init__(
        self, reader: BatchReader, episodes: Sequence[Episode], events: Sequence[Event], *, bias: int = 0
    ) -> None:
        self.reader = reader
        self._frames = {episode.name: episode.frames for episode in episodes}
        self._bias = bias
        self.events = [event for event in events if event.episode in self._frames and self._window(event).frames > 0]

    def __len__(self) -> int:
        return len(self.events)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """The batch of these windows, in this order."""
        batch = self.reader.read([None if index == IDLE else self._window(self.events[index]) for index in indices])
        batch["first"] = _first(batch["timestamp"], continuous=False)
        batch["text"] = [
            "" if episode == IDLE_EPISODE else self.events[index].text
            for episode, index in zip(batch["episode"], indices, strict=True)
        ]
        single: dict[str, Any] = _in_single_precision(batch)
        return single

    def _window(self, event: Event) -> Window:
        form = self.reader.form
        start = window_start(event.time, form.length, form.stride, self._bias)
        there_are = -(-(self._frames[event.episode] - start) // form.stride)
        return Window(event.episode, start, min(form.length, there_are))


def _first(timestamp: torch.Tensor, continuous: bool) -> torch.Tensor:
    """Where rows begin anew, (B, T) bool: only ever at their first frame."""
    first = torch.zeros(timestamp.shape, dtype=torch.bool)
    first[:, 0] = timestamp[:, 0] == 0 if continuous else True
    return first


def _in_single_precision(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _in_single_precision(part) for key, part in value.items()}
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.float64 else value
