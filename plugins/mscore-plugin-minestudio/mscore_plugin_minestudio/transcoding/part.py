"""A part of transcoded images while it is written: what is there survives a kill."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from mscore_plugin_minestudio.storage.layout import (
    CHUNK_INFOS_KEY,
    CHUNK_SIZE_KEY,
    EPISODE_FIELD,
    FRAMES_FIELD,
    INDEX_FIELD,
    NUM_EPISODES_KEY,
    TOTAL_FRAMES_KEY,
    DatasetError,
    chunk_key,
)
from mscore_plugin_minestudio.storage.parts import Part
from mscore_plugin_minestudio.storage.payloads import dump_payload
from mscore_plugin_minestudio.writing.part import MAP_SIZE
from mscore_plugin_minestudio.writing.writer import DRAFT_SUFFIX

_COMMIT_BYTES = 1 << 25
"""A kill loses what was not committed; a commit waits for the disk."""


class PartDraft:
    """Takes the chunks of a part in any order, and becomes a part that lists the same episodes.

    Args:
        part: the part that is transcoded.
        place: folder of the new part; until it is finished, a hidden one beside it is written.

    Raises:
        DatasetError: the draft cannot be opened.
    """

    def __init__(self, part: Part, place: Path) -> None:
        self._part = part
        self._place = place
        self._folder = place.with_name(f".{place.name}{DRAFT_SUFFIX}")
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._environment: Any = lmdb.open(str(self._folder), map_size=MAP_SIZE, lock=False)
            with self._environment.begin() as transaction:
                self._keys = set(transaction.cursor().iternext(keys=True, values=False))
        except lmdb.Error as error:
            raise DatasetError(
                f"it cannot be opened: {error}; delete it and transcode again", file=self._folder
            ) from error
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0

    def has(self, index: int, start: int) -> bool:
        """Whether a chunk is there already."""
        return chunk_key(index, start) in self._keys

    def put(self, index: int, start: int, payload: bytes) -> None:
        """Add a chunk.

        Raises:
            DatasetError: the disk is full, or fails.
        """
        self._pending.append((chunk_key(index, start), payload))
        self._pending_bytes += len(payload)
        if self._pending_bytes >= _COMMIT_BYTES:
            self._commit()

    def finish(self, kept: Mapping[str, int]) -> None:
        """Write down what the part holds, and let it appear.

        Args:
            kept: name to number of the episodes whose chunks are all there; others' chunks are taken out.

        Raises:
            DatasetError: the disk is full, or fails.
        """
        listed: Any = self._part.load(CHUNK_INFOS_KEY)
        infos = [info for info in listed if _is_of(info, kept)]
        self._commit()
        numbers = {b"(%d" % number for number in kept.values()}
        self._delete([key for key in self._keys if key.startswith(b"(") and key.split(b",")[0] not in numbers])
        self._pending = [
            (CHUNK_SIZE_KEY, dump_payload(self._part.load(CHUNK_SIZE_KEY))),
            (CHUNK_INFOS_KEY, dump_payload(infos)),
            (NUM_EPISODES_KEY, dump_payload(len(infos))),
            (TOTAL_FRAMES_KEY, dump_payload(sum(info[FRAMES_FIELD] for info in infos))),
        ]
        self._commit()
        self.close()
        self._folder.rename(self._place)

    def close(self) -> None:
        """Close the environment; a draft stays where it is."""
        self._environment.close()

    def _commit(self) -> None:
        with self._write() as transaction:
            for key, value in self._pending:
                transaction.put(key, value)
        self._keys.update(key for key, _ in self._pending)
        self._pending.clear()
        self._pending_bytes = 0

    def _delete(self, keys: Sequence[bytes]) -> None:
        with self._write() as transaction:
            for key in keys:
                transaction.delete(key)

    @contextmanager
    def _write(self) -> Iterator[Any]:
        try:
            with self._environment.begin(write=True) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise DatasetError(
                f"it cannot be written: {error}; the same command goes on from here", file=self._folder
            ) from error


def _is_of(info: Any, kept: Mapping[str, int]) -> bool:
    """Whether an entry of the list of episodes, which may be malformed, is of one of these."""
    name = info.get(EPISODE_FIELD) if type(info) is dict else None
    return isinstance(name, str) and kept.get(name) == info.get(INDEX_FIELD)
