"""One modality of a dataset: the episodes of all its parts, and their chunks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.storage.layout import (
    CHUNK_FRAMES,
    CHUNK_SIZE_KEY,
    DATA_FILE,
    DatasetError,
    PayloadError,
    chunk_key,
    modality_of,
)
from mscore_plugin_minestudio.storage.parts import EpisodeRecord, Part, PartContent
from mscore_plugin_minestudio.storage.payloads import load_payload

OnError = Literal["raise", "skip"]


class ChunkSpan(NamedTuple):
    """Which of the wanted frames one chunk holds.

    Attributes:
        start: the chunk's first frame.
        inside: numbers of the wanted frames within the chunk, (n,) int64.
        place: where they stand among all wanted frames.
        selection: what selects the frames in an array of the chunk: a slice where they are consecutive.
    """

    start: int
    inside: NDArray[np.int64]
    place: slice
    selection: slice | NDArray[np.int64]


class ModalityStore:
    """The chunks of one modality, by episode. It may be sent to other processes.

    Args:
        modality: ``image``, ``action``, ``meta_info`` or ``segmentation``.
        parts: its parts. Of an episode that is in several, the last part's is taken, as MineStudio does.
        on_error: ``raise`` stops at the first problem; ``skip`` leaves out what is concerned.

    Attributes:
        modality: as given.
        parts: those that can be read.
        chunk_frames: frames of a chunk, the same in all parts.
        episodes: name to place.
        problems: what was left out and why; those of a single episode name it.
        repeated: names of the episodes that several parts hold.

    Raises:
        DatasetError: with ``raise``, a part or an episode cannot be read, or parts differ in the size of a chunk.
    """

    def __init__(self, modality: str, parts: Sequence[Part], on_error: OnError = "raise") -> None:
        self.modality = modality
        self.parts: list[Part] = []
        self.episodes: dict[str, EpisodeRecord] = {}
        self.problems: list[DatasetError] = []
        self.repeated: list[str] = []
        contents = self._contents(parts)
        sizes = {content.chunk_frames for content in contents.values()}
        self.chunk_frames = CHUNK_FRAMES if CHUNK_FRAMES in sizes or not sizes else min(sizes)
        for part, content in contents.items():
            self._add(part, content)
        if on_error == "raise":
            raise_first(self.problems)

    def read_chunk(self, episode: str, start: int) -> bytes:
        """The payload of the chunk that begins at a frame.

        Args:
            episode: one of ``episodes``.
            start: a multiple of ``chunk_frames`` within the episode.

        Raises:
            DatasetError: the chunk is missing, or the file cannot be read.
        """
        record = self.episodes[episode]
        raw = record.part.get(chunk_key(record.index, start))
        if raw is None:
            raise self.error(episode, start, "the chunk is missing")
        return raw

    @contextmanager
    def borrow_chunk(self, episode: str, start: int) -> Iterator[memoryview]:
        """The payload of a chunk where it lies, to be read in the block only; as :meth:`read_chunk` else."""
        record = self.episodes[episode]
        with record.part.borrow(chunk_key(record.index, start)) as raw:
            if raw is None:
                raise self.error(episode, start, "the chunk is missing")
            yield raw

    def load_chunk(self, episode: str, start: int) -> object:
        """The plain data of a chunk that is a pickle; arguments as of :meth:`read_chunk`.

        Raises:
            DatasetError: the chunk is missing or no plain data, or the file cannot be read.
        """
        try:
            return load_payload(self.read_chunk(episode, start))
        except PayloadError as error:
            raise self.error(episode, start, str(error)) from error

    def spans(self, frames: NDArray[np.int64]) -> Iterator[ChunkSpan]:
        """The wanted frames chunk by chunk.

        Args:
            frames: numbers of frames of an episode, ascending, at least one, (n,) int64.
        """
        consecutive = bool((np.diff(frames) == 1).all())
        chunks = frames // self.chunk_frames
        bounds = [0, *(np.flatnonzero(np.diff(chunks)) + 1).tolist(), len(frames)]
        for first, behind in pairwise(bounds):
            start = int(chunks[first]) * self.chunk_frames
            inside = frames[first:behind] - start
            selection = slice(int(inside[0]), int(inside[-1]) + 1) if consecutive else inside
            yield ChunkSpan(start, inside, slice(first, behind), selection)

    def error(self, episode: str, start: int, problem: str) -> DatasetError:
        """An error that says which chunk it is about."""
        record = self.episodes[episode]
        return DatasetError(problem, file=record.part.file, key=chunk_key(record.index, start), episode=episode)

    def _contents(self, parts: Sequence[Part]) -> dict[Part, PartContent]:
        contents = {}
        for part in parts:
            try:
                contents[part] = part.content()
            except DatasetError as problem:
                self.problems.append(problem)
        return contents

    def _add(self, part: Part, content: PartContent) -> None:
        if content.chunk_frames != self.chunk_frames:
            text = f"chunks of {content.chunk_frames} frames, other parts have {self.chunk_frames}; write it again"
            self.problems.append(DatasetError(text, file=part.file, key=CHUNK_SIZE_KEY))
            return
        self.parts.append(part)
        self.problems += content.problems
        self.repeated += [record.name for record in content.records if record.name in self.episodes]
        self.episodes.update({record.name: record for record in content.records})


def raise_first(problems: Sequence[DatasetError]) -> None:
    """Raise the first of some problems, if there is one, with a note on the others."""
    if problems:
        first = problems[0]
        if len(problems) > 1:
            first.add_note(f"and {len(problems) - 1} more like it: `mscore data inspect` lists them")
        raise first


def find_parts(dataset: Path, modality: str) -> tuple[list[Part], list[DatasetError]]:
    """The parts of a modality of a dataset, in the order of their names, and what lies between them.

    Names that begin with a dot are passed over: writers' drafts, and notes of operating systems.

    Args:
        dataset: the dataset's folder.
        modality: the modality.

    Raises:
        DatasetError: the folder cannot be listed.
    """
    parts, problems = [], []
    for folder in [entry for entry in _entries(dataset) if entry.is_dir() and modality_of(entry.name) == modality]:
        entries = _entries(folder)
        if not entries:
            problems.append(DatasetError(f"it holds no part of {modality}; fill or remove it", file=folder))
        for entry in entries:
            if (entry / DATA_FILE).is_file():
                parts.append(Part(entry))
            else:
                text = f"it is no part of {modality}, which is a folder with a file {DATA_FILE}; remove it"
                problems.append(DatasetError(text, file=entry))
    return parts, problems


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DatasetError(f"it cannot be listed: {error}", file=folder) from error
