"""Episodes of a dataset in Minari's HDF5 format: one file, a group for each episode.

A group holds ``observations`` (one more than there are actions), ``actions``, ``rewards``, ``terminations``
and ``truncations``; a Dict space's parts are groups within, a Tuple space's are called ``_index_0`` and so on.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from mscore import MscoreError
from mscore_plugin_minari.frames import Columns, Frames, as_frames, decode_jpegs, may_be_jpeg, read_space

FILE = "main_data.hdf5"

OPEN_NODES = 1024
"""Groups and arrays that a process keeps open: the rows of a batch go on in the episodes that they are in."""


class HDF5Episodes:
    """Reads slices of episodes.

    The file is opened when a process first reads, and once in each process: an instance may be forked with, and
    pickled.

    Args:
        folder: the folder of the dataset's files.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._file: h5py.File | None = None
        self._nodes: dict[tuple[int, str | int], Any] = {}
        self._opened_by = -1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None, "_nodes": {}}

    def lengths(self, episodes: int) -> NDArray[np.int64]:
        """Number of actions in each of the first ``episodes`` episodes.

        Raises:
            MscoreError: the file cannot be read, or an episode is missing.
        """
        with self._open() as file:
            return np.array([self._length(file, episode) for episode in range(episodes)], dtype=np.int64)

    def read(self, episode: int, length: int, start: int, stop: int, columns: Columns) -> dict[str, Frames]:
        """Frames ``start`` to ``stop`` (exclusive) of some columns of an episode.

        Args:
            episode: its number.
            length: its actions, as :meth:`lengths` counted them.
            start: first frame.
            stop: frame behind the last, at most ``length``.
            columns: the columns' spaces by name.

        Raises:
            MscoreError: something is missing, damaged, or not of the column's space.
        """
        if self._file is None or self._opened_by != os.getpid():
            self._file, self._nodes, self._opened_by = self._open(), {}, os.getpid()
        if len(self._nodes) > OPEN_NODES:
            self._nodes.clear()
        at = f"{self.path}: episode {episode}"
        group = self._child(self._file, f"episode_{episode}", at)
        frames = {}
        for name, space in columns.items():
            where, stored = f"{at}, {name}", length + 1 if name == "observations" else length
            leaf = partial(_read_leaf, frames=slice(start, stop), length=stored)
            frames[name] = read_space(space, self._child(group, name, where), where, self._child, leaf)
        return frames

    def _length(self, file: h5py.File, episode: int) -> int:
        where = f"{self.path}: episode {episode}"
        rewards = _open_child(_open_child(file, f"episode_{episode}", where), "rewards", f"{where}, rewards")
        if not isinstance(rewards, h5py.Dataset) or rewards.ndim == 0:
            raise MscoreError(f"{where}, rewards: expected a list of numbers: the file is damaged")
        return int(rewards.shape[0])

    def _open(self) -> h5py.File:
        try:
            return h5py.File(self.path, "r", locking="best-effort")
        except OSError as error:
            raise MscoreError(
                f"{self.path} cannot be read ({error}): it is missing, damaged, or being written"
            ) from error

    def _child(self, node: Any, key: str | int, where: str) -> Any:
        place = id(node), key  # a node lives as long as its children are in the dict
        child = self._nodes.get(place)
        if child is None:
            child = self._nodes[place] = _open_child(node, key, where)
        return child


def _open_child(node: Any, key: str | int, where: str) -> Any:
    try:
        return node[f"_index_{key}" if isinstance(key, int) else key]
    except (KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
        raise MscoreError(f"{where} is missing or damaged ({error}): get the dataset anew") from error


def _read_leaf(space: gymnasium.Space[Any], node: Any, where: str, frames: slice, length: int) -> Frames:
    if not isinstance(node, h5py.Dataset) or node.ndim == 0 or len(node) != length:
        found = f"{len(node)} frames" if isinstance(node, h5py.Dataset) and node.ndim else "no list of frames"
        raise MscoreError(f"{where}: {found}, expected {length}: the dataset is damaged")
    try:
        stored = node[frames]
        if isinstance(space, spaces.Text):
            return [text.decode() for text in stored]
        jpegs = None
        if may_be_jpeg(space) and stored.ndim <= 2:
            jpegs = [np.asarray(file, np.uint8).tobytes() for file in stored]
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise MscoreError(f"{where} cannot be read ({error}): the file is damaged") from error
    return as_frames(stored, space, where) if jpegs is None else decode_jpegs(jpegs, space, where)
