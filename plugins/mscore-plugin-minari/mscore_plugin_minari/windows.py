"""Windows of a Minari dataset's episodes."""

from collections.abc import Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mscore import MscoreError, WindowDataset
from mscore_plugin_minari.datasets import Description
from mscore_plugin_minari.frames import Columns, Frames
from mscore_plugin_minari.hdf5 import HDF5Episodes

FLAG = spaces.Box(0, 1, (), np.uint8)
REWARD = spaces.Box(-np.inf, np.inf, (), np.float32)


class Episodes(Protocol):
    """Reads slices of the episodes of a dataset, whatever its files are; may be pickled and forked with."""

    def lengths(self, episodes: int) -> NDArray[np.int64]:
        """Number of actions in each of the first ``episodes`` episodes."""

    def read(self, episode: int, length: int, start: int, stop: int, columns: Columns) -> dict[str, Frames]:
        """Frames ``start`` to ``stop`` (exclusive) of some columns of an episode of ``length`` actions."""


def open_episodes(description: Description) -> Episodes:
    """What reads a dataset's files; nothing is opened yet.

    Raises:
        MscoreError: a library that the files need is not installed.
    """
    if description.data_format == "hdf5":
        return HDF5Episodes(description.folder)
    try:
        from mscore_plugin_minari.arrow import ArrowEpisodes
    except ImportError as error:
        raise MscoreError(
            f"{description.folder} holds {description.data_format} files, which pyarrow reads ({error}): "
            'pip install "mscore-plugin-minari[arrow]"'
        ) from error
    return ArrowEpisodes(description.folder, description.data_format)


class MinariWindows(WindowDataset):
    """Windows of some episodes of a Minari dataset.

    Minari keeps an observation more than actions: the one after the last action. Row t of an episode is the
    observation that action t was chosen for, with what came of it: its reward, and whether the episode was over
    then. The last observation is in no row.

    Args:
        description: the dataset's.
        source: reads its files.
        episodes: numbers of the episodes to serve, in this order.
        lengths: their actions.
        window: frames of a window.
    """

    def __init__(
        self,
        description: Description,
        source: Episodes,
        episodes: Sequence[int],
        lengths: Sequence[int],
        window: int,
    ) -> None:
        super().__init__([f"episode-{number}" for number in episodes], lengths, window)
        self._numbers = list(episodes)
        self._source = source
        self._columns: Columns = {
            "observations": description.observation_space,
            "actions": description.action_space,
            "rewards": REWARD,
            "terminations": FLAG,
            "truncations": FLAG,
        }

    def read(self, episode: int, start: int, stop: int) -> dict[str, Any]:
        """Observations by name (``image`` where they have none), ``agent_action``, and what came of it.

        ``reward`` is float32; ``terminated`` and ``truncated`` are bool.
        """
        length = int(self.windows.lengths[episode])
        frames = self._source.read(self._numbers[episode], length, start, stop, self._columns)
        seen = frames["observations"]
        return {
            **(seen if isinstance(seen, dict) else {"image": seen}),
            "agent_action": _as_action(frames["actions"], self._columns["actions"]),
            "reward": frames["rewards"],
            "terminated": frames["terminations"].astype(bool),
            "truncated": frames["truncations"].astype(bool),
        }


def _as_action(value: Frames, space: gymnasium.Space[Any]) -> Frames:
    """Actions with the dtypes of the contract: numbers of a choice int64, of a Box float32."""
    if isinstance(space, spaces.Dict):
        return {key: _as_action(value[key], part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.MultiBinary):
        return value
    return value.astype(np.float32 if isinstance(space, spaces.Box) else np.int64, copy=False)
