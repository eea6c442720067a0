"""A part of a modality: one LMDB environment with chunks of whole episodes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mscore_plugin_minestudio.storage.layout import (
    CHUNK_INFOS_KEY,
    CHUNK_SIZE_KEY,
    EPISODE_FIELD,
    FRAMES_FIELD,
    INDEX_FIELD,
    META_KEYS,
    VALID_FRAMES_FIELD,
    DatasetError,
    chunk_key,
)
from mscore_plugin_minestudio.storage.lmdb_reader import LmdbReader


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """Where an episode lies.

    Attributes:
        name: its name, the same in every modality.
        part: the part that holds it.
        index: its number in that part.
        frames: its frames, at least 1.
    """

    name: str
    part: "Part"
    index: int
    frames: int


@dataclass(frozen=True, slots=True)
class PartContent:
    """What a part says that it holds.

    Attributes:
        chunk_frames: frames of a chunk.
        records: its episodes that can be read.
        problems: what is wrong with the others, each with its episode where it has a name.
    """

    chunk_frames: int
    records: list[EpisodeRecord] = field(default_factory=list)
    problems: list[DatasetError] = field(default_factory=list)


class Part(LmdbReader):
    """One part, opened at the first use; it may be sent to other processes."""

    def content(self) -> PartContent:
        """The part's episodes, with those that it describes wrongly or whose chunks are missing set apart.

        Raises:
            DatasetError: nothing in the part can be read.
        """
        size = whole_number(self.load(CHUNK_SIZE_KEY))
        if size is None or size < 1:
            raise self._error(CHUNK_SIZE_KEY, "it is no number of frames")
        content = PartContent(size)
        names, indices = set(), set()
        for number, info in enumerate(self.infos()):
            try:
                record = self._record(info, number, size)
                if record.name in names or record.index in indices:
                    raise self._error(CHUNK_INFOS_KEY, "its name or its number stands twice", record.name)
            except DatasetError as problem:
                content.problems.append(problem)
                continue
            names.add(record.name)
            indices.add(record.index)
            content.records.append(record)
        self._set_apart_incomplete(content)
        return content

    def infos(self) -> list[Any]:
        """The part's list of episodes, as it is stored.

        Raises:
            DatasetError: it is missing, or no list.
        """
        infos = self.load(CHUNK_INFOS_KEY)
        if not isinstance(infos, list):
            raise self._error(CHUNK_INFOS_KEY, f"a {type(infos).__name__}; expected a list of episodes")
        return infos

    def _record(self, info: Any, number: int, chunk_frames: int) -> EpisodeRecord:
        if type(info) is not dict or type(info.get(EPISODE_FIELD)) is not str or not info[EPISODE_FIELD]:
            raise self._error(CHUNK_INFOS_KEY, f"entry {number} names no episode")
        name = info[EPISODE_FIELD]
        index, frames = whole_number(info.get(INDEX_FIELD)), whole_number(info.get(FRAMES_FIELD))
        if index is None or frames is None or index < 0 or frames < 1 or frames % chunk_frames:
            raise self._error(
                CHUNK_INFOS_KEY,
                f"{INDEX_FIELD} {info.get(INDEX_FIELD)!r:.40}, {FRAMES_FIELD} {info.get(FRAMES_FIELD)!r:.40}; "
                f"expected a number from 0 on and a multiple of {chunk_frames}",
                name,
            )
        if VALID_FRAMES_FIELD in info:
            valid = whole_number(info[VALID_FRAMES_FIELD])
            if valid is None or not frames - chunk_frames < valid <= frames:
                raise self._error(
                    CHUNK_INFOS_KEY, f"{VALID_FRAMES_FIELD} does not fit {FRAMES_FIELD}, which is {frames}", name
                )
            frames = valid
        return EpisodeRecord(name, self, index, frames)

    def _set_apart_incomplete(self, content: PartContent) -> None:
        size = content.chunk_frames
        chunks = sum(-(-record.frames // size) for record in content.records)
        # Going through all keys takes long in a large part, and their number tells nearly as much.
        if not content.problems and len(self) == chunks + len(META_KEYS):
            return
        keys = set(self.keys())
        complete = []
        for record in content.records:
            starts = range(0, record.frames, size)
            # One by one: a forged number of frames has chunks without end.
            missing = next((key for start in starts if (key := chunk_key(record.index, start)) not in keys), None)
            beyond = chunk_key(record.index, starts[-1] + size)
            if missing is not None:
                content.problems.append(self._error(missing, "the chunk is missing", record.name))
            elif beyond in keys:
                text = f"there is a chunk behind the last of the {record.frames} frames that {FRAMES_FIELD} states"
                content.problems.append(self._error(beyond, text, record.name))
            else:
                complete.append(record)
        content.records[:] = complete

    def _error(self, key: bytes, problem: str, episode: str | None = None) -> DatasetError:
        return DatasetError(problem, file=self.file, key=key, episode=episode)


def whole_number(value: object) -> int | None:
    """A payload's integer, which may be numpy's; None for anything else."""
    return int(value) if isinstance(value, int | np.integer) and not isinstance(value, bool) else None
