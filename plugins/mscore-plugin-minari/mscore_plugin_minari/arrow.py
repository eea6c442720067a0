"""Episodes of a dataset in Minari's Arrow and Parquet formats: a folder for each episode, with one file in it.

The file has a row for each observation, so one more than there are actions: what the last row holds beside
the observation is padding.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from gymnasium import spaces
from numpy.typing import NDArray

from mscore import MscoreError
from mscore_plugin_minari.frames import Columns, Frames, as_frames, decode_jpegs, may_be_jpeg, read_space

UNREADABLE = (OSError, KeyError, ValueError, pa.ArrowException)
"""What pyarrow raises for a file that is damaged."""


class ArrowEpisodes:
    """Reads slices of episodes.

    Arrow files are mapped, and only what a slice needs is read. Of a Parquet file all that stands before the
    slice is decoded too. No file is kept open: an instance may be forked with, and pickled.

    Args:
        folder: the folder of the dataset's files.
        data_format: ``arrow`` or ``parquet``.
    """

    def __init__(self, folder: Path, data_format: str) -> None:
        self.folder = folder
        self.data_format = data_format

    def lengths(self, episodes: int) -> NDArray[np.int64]:
        """Number of actions in each of the first ``episodes`` episodes.

        Raises:
            MscoreError: a file is missing or cannot be read.
        """
        return np.array([self._rows(episode) - 1 for episode in range(episodes)], dtype=np.int64)

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
        path = self._path(episode)
        try:
            table = self._slice(path, start, stop, list(columns))
            table.validate(full=True)
            stored = {name: table.column(name).combine_chunks() for name in columns}
        except UNREADABLE as error:
            raise _unreadable(path, error) from error
        if len(table) != stop - start:
            raise MscoreError(f"{path}: {start + len(table)} frames, expected {length}: the dataset is damaged")
        return {
            name: read_space(space, stored[name], f"{path}, {name}", _child, _read_leaf)
            for name, space in columns.items()
        }

    def _path(self, episode: int) -> Path:
        paths = sorted((self.folder / str(episode)).glob(f"*.{self.data_format}"))
        if len(paths) != 1:
            raise MscoreError(
                f"{self.folder / str(episode)}: {len(paths)} {self.data_format} files, expected one: "
                "the dataset is damaged"
            )
        return paths[0]

    def _rows(self, episode: int) -> int:
        path = self._path(episode)
        try:
            if self.data_format == "parquet":
                return int(pq.ParquetFile(path).metadata.num_rows)
            return sum(batch.num_rows for batch in _batches(path))
        except UNREADABLE as error:
            raise _unreadable(path, error) from error

    def _slice(self, path: Path, start: int, stop: int, columns: list[str]) -> pa.Table:
        if self.data_format == "parquet":
            batches = pq.ParquetFile(path).iter_batches(columns=columns, use_threads=False)
        else:
            batches = (batch.select(columns) for batch in _batches(path))
        parts, before = [], 0
        for batch in batches:
            first = max(start - before, 0)
            if first < batch.num_rows:
                parts.append(batch.slice(first, stop - before - first))
            before += batch.num_rows
            if before >= stop:
                break
        if not parts:
            raise ValueError(f"it has {before} rows, expected more than {start}")
        return pa.Table.from_batches(parts)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    return (reader.get_batch(number) for number in range(reader.num_record_batches))


def _child(node: pa.Array, key: str | int, where: str) -> pa.Array:
    if not isinstance(node, pa.StructArray) or node.type.get_field_index(str(key)) < 0:
        raise MscoreError(f"{where} is missing: get the dataset anew")
    return node.field(str(key))


def _read_leaf(space: gymnasium.Space[Any], node: pa.Array, where: str) -> Frames:
    if node.null_count:
        raise MscoreError(f"{where}: {node.null_count} of {len(node)} frames hold nothing: the dataset is damaged")
    if isinstance(space, spaces.Text):
        return [str(text) for text in node.to_pylist()]
    if may_be_jpeg(space) and pa.types.is_binary(node.type):
        return decode_jpegs(node.to_pylist(), space, where)
    if isinstance(node, pa.FixedSizeListArray):
        shape, width = space.shape or (), node.type.list_size
        numbers = node.flatten().to_numpy(zero_copy_only=False)
        # Minari flattens the frames of every space.
        return as_frames(numbers.reshape(-1, *(shape if math.prod(shape) == width else (width,))), space, where)
    return as_frames(node.to_numpy(zero_copy_only=False), space, where)


def _unreadable(path: Path, error: Exception) -> MscoreError:
    return MscoreError(f"{path} cannot be read ({error}): the file is damaged")
