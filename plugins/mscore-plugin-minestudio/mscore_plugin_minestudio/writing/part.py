"""One LMDB environment of a dataset, while it is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from mscore import MscoreError
from mscore_plugin_minestudio.storage.layout import (
    CHUNK_FRAMES,
    CHUNK_INFOS_KEY,
    CHUNK_SIZE_KEY,
    EPISODE_FIELD,
    FRAMES_FIELD,
    INDEX_FIELD,
    NUM_EPISODES_KEY,
    TOTAL_FRAMES_KEY,
    VALID_FRAMES_FIELD,
    chunk_key,
)
from mscore_plugin_minestudio.storage.payloads import dump_payload

MAP_SIZE = 1 << 40
"""What an environment may grow to; the file has only the pages that are used."""

_CHUNKS_A_COMMIT = 256


class PartEnvironment:
    """A part of one modality: its episodes one after another, their chunks in order.

    Args:
        folder: where; it must not exist.

    Raises:
        MscoreError: here and on writing: the disk is full, or what else keeps it from being written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        with self._writing():
            # Nobody else knows of a draft: no lock; it is synced once, at its end.
            self._environment = lmdb.open(str(folder), map_size=MAP_SIZE, lock=False, sync=False)
        self._infos: list[dict[str, Any]] = []
        self._transaction: Any = None
        self._chunks = 0
        self._pending = 0

    @property
    def episodes(self) -> int:
        """How many it lists."""
        return len(self._infos)

    def append_chunk(self, payload: bytes) -> None:
        """Write the next chunk of the present episode."""
        self._put(chunk_key(len(self._infos), self._chunks * CHUNK_FRAMES), payload)
        self._chunks += 1

    def end_episode(self, name: str, frames: int) -> None:
        """List the present episode, of so many frames without padding."""
        stored = self._chunks * CHUNK_FRAMES
        info = {EPISODE_FIELD: name, INDEX_FIELD: len(self._infos), FRAMES_FIELD: stored}
        if frames != stored:
            info[VALID_FRAMES_FIELD] = frames
        self._infos.append(info)
        self._chunks = 0

    def drop_episode(self) -> None:
        """Take the present episode's chunks away again."""
        with self._writing():
            for chunk in range(self._chunks):
                self._begin().delete(chunk_key(len(self._infos), chunk * CHUNK_FRAMES))
        self._chunks = 0

    def finish(self) -> None:
        """Write down what the part holds, and close it."""
        self._put(CHUNK_SIZE_KEY, dump_payload(CHUNK_FRAMES))
        self._put(CHUNK_INFOS_KEY, dump_payload(self._infos))
        self._put(NUM_EPISODES_KEY, dump_payload(len(self._infos)))
        self._put(TOTAL_FRAMES_KEY, dump_payload(sum(info[FRAMES_FIELD] for info in self._infos)))
        self._commit()
        with self._writing():
            self._environment.sync(True)
        self._environment.close()

    def abandon(self) -> None:
        """Close it as it is."""
        if self._transaction is not None:
            self._transaction.abort()
        self._environment.close()

    def _begin(self) -> Any:
        if self._transaction is None:
            self._transaction = self._environment.begin(write=True)
        return self._transaction

    def _put(self, key: bytes, value: bytes) -> None:
        with self._writing():
            self._begin().put(key, value)
        self._pending += 1
        if self._pending >= _CHUNKS_A_COMMIT:
            self._commit()

    def _commit(self) -> None:
        # A transaction is gone after its commit, also if that fails.
        transaction, self._transaction, self._pending = self._transaction, None, 0
        with self._writing():
            transaction.commit()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise MscoreError(f"{self._folder} cannot be written ({error})") from error
