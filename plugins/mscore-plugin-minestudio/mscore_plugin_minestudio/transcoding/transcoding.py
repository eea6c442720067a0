"""Storing a dataset's images anew, at the size that they are trained at and in a form that reads faster."""

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mscore import MscoreError
from mscore_plugin_minestudio.frames.forms import FORMS
from mscore_plugin_minestudio.frames.reader import ImageReader
from mscore_plugin_minestudio.jobs import progress_bar
from mscore_plugin_minestudio.storage.layout import DATA_FILE, EVENT_FOLDER, DatasetError, modality_of
from mscore_plugin_minestudio.storage.modality import ModalityStore, OnError, find_parts
from mscore_plugin_minestudio.storage.parts import Part
from mscore_plugin_minestudio.storage.store import open_catalog
from mscore_plugin_minestudio.storage.stored_spaces import read_spaces, write_spaces
from mscore_plugin_minestudio.transcoding.note import TranscodingNote
from mscore_plugin_minestudio.transcoding.part import PartDraft
from mscore_plugin_minestudio.writing.writer import DRAFT_SUFFIX

IMAGE = "image"

_AHEAD = 4
"""Chunks in work for every thread: enough to keep it busy while finished ones are written."""

_MEASURED_CHUNKS = 4


@dataclass(frozen=True)
class Report:
    """A finished transcoding.

    Attributes:
        parts: parts of images.
        frames: frames in them.
        left_out: episode to why it is not in the new dataset.
        bytes_before: of the images' files.
        bytes_after: of the images' files.
        seconds_before: CPU time to read a frame at the new size, measured here on a few.
        seconds_after: CPU time to read a frame at the new size, measured here on a few.
    """

    parts: int
    frames: int
    left_out: dict[str, str]
    bytes_before: int
    bytes_after: int
    seconds_before: float
    seconds_after: float


def transcode(
    source: Path, target: Path, size: tuple[int, int], form: str, *, workers: int, on_error: OnError = "raise"
) -> Report:
    """Make a dataset of the same episodes whose images have another size and form, or finish making it.

    Frames are those that the reader gives at this size. Everything but the images is copied. Parts appear whole;
    one that was interrupted goes on at the chunk where it stopped.

    Args:
        source: the dataset's folder.
        target: the new dataset's folder: new, empty, or of the same transcoding.
        size: width and height of the new frames.
        form: one of :data:`~mscore_plugin_minestudio.frames.forms.FORMS`.
        workers: threads.
        on_error: whether an episode that cannot be read stops the transcoding, or is left out.

    Raises:
        MscoreError: the target holds something else, the disk is too small, or the size does not suit the form.
        DatasetError: the source is no dataset, or, with ``raise``, something in it cannot be read.
    """
    if FORMS[form].even_sides and (size[0] % 2 or size[1] % 2):
        raise MscoreError(f"frames of {size[0]}x{size[1]}: {form} needs even sides; choose an even size")
    if target.resolve() == source.resolve():
        raise MscoreError(f"{target} is the dataset itself; choose another folder")
    before = open_catalog([source], [IMAGE], on_error).stores[IMAGE]
    identity = {"source": str(source.resolve()), "width": size[0], "height": size[1], "form": form}
    with TranscodingNote(target, identity) as note:
        note.add(_unreadable(before))
        _check_space(before, target, size, form)
        stores = [ModalityStore(IMAGE, [part], on_error) for part in before.parts]
        with progress_bar(f"Transcoding to {target.name}", sum(_frames(store) for store in stores)) as advance:
            for store in stores:
                _transcode_part(store, target, size, form, workers, on_error, note, advance)
        _carry_over(source, target)
        left_out = note.left_out
    after = open_catalog([target], [IMAGE]).stores[IMAGE]
    return Report(
        parts=len(after.parts),
        frames=_frames(after),
        left_out=left_out,
        bytes_before=_bytes(before.parts),
        bytes_after=_bytes(after.parts),
        seconds_before=_reading_seconds(before, after, size),
        seconds_after=_reading_seconds(after, after, size),
    )


def _transcode_part(
    store: ModalityStore,
    target: Path,
    size: tuple[int, int],
    form: str,
    workers: int,
    on_error: OnError,
    note: TranscodingNote,
    advance: Callable[[float], None],
) -> None:
    """Write one part, or what is missing of it."""
    part = store.parts[0]
    folder = part.file.parent
    place = target / folder.parent.name / folder.name
    if (place / DATA_FILE).exists():
        advance(_frames(store))
        return
    draft = PartDraft(part, place)
    encoder = _ChunkEncoder(store, size, form, on_error)
    try:
        chunks = [
            (episode, start)
            for episode, record in store.episodes.items()
            for start in range(0, record.frames, store.chunk_frames)
        ]
        missing = [chunk for chunk in chunks if not draft.has(store.episodes[chunk[0]].index, chunk[1])]
        advance((len(chunks) - len(missing)) * store.chunk_frames)
        left_out: dict[str, str] = {}
        with ThreadPoolExecutor(workers, thread_name_prefix="transcode") as executor:
            for (episode, start), done in zip(
                missing, _in_order(executor, encoder.encode, missing, _AHEAD * workers), strict=True
            ):
                if isinstance(done, DatasetError):
                    left_out[episode] = str(done)
                else:
                    draft.put(store.episodes[episode].index, start, done)
                advance(store.chunk_frames)
        note.add(left_out)
        draft.finish({name: record.index for name, record in store.episodes.items() if name not in left_out})
    finally:
        draft.close()


class _ChunkEncoder:
    """Reads a chunk at the new size and encodes it; several threads may use it at once."""

    def __init__(self, store: ModalityStore, size: tuple[int, int], form: str, on_error: OnError) -> None:
        self._store = store
        self._size = size
        self._form = FORMS[form]
        self._on_error = on_error
        self._own = threading.local()

    def encode(self, chunk: tuple[str, int]) -> bytes | DatasetError:
        """The new payload of a chunk; the error where it cannot be read and is to be left out."""
        episode, start = chunk
        width, height = self._size
        if not hasattr(self._own, "reader"):
            self._own.reader = ImageReader(self._store, width, height, threads=1)
        frames = np.empty((self._store.chunk_frames, height, width, 3), np.uint8)
        try:
            self._own.reader.read_into([(episode, np.arange(start, start + len(frames)), frames)])
        except DatasetError as error:
            if self._on_error == "raise":
                raise
            return error
        return self._form.encode(frames)


def _in_order(
    executor: ThreadPoolExecutor,
    function: Callable[[tuple[str, int]], bytes | DatasetError],
    chunks: Iterable[tuple[str, int]],
    ahead: int,
) -> Iterator[bytes | DatasetError]:
    """Results in the order of the chunks, of which only so many are in work or waiting at a time."""
    waiting: deque[Future[bytes | DatasetError]] = deque()
    try:
        for chunk in chunks:
            waiting.append(executor.submit(function, chunk))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _unreadable(store: ModalityStore) -> dict[str, str]:
    return {problem.episode or str(problem.file): str(problem) for problem in store.problems}


def _frames(store: ModalityStore) -> int:
    """Frames of a store's chunks."""
    size = store.chunk_frames
    return sum(-(-record.frames // size) * size for record in store.episodes.values())


def _bytes(parts: list[Part]) -> int:
    return sum(part.file.stat().st_size for part in parts)


def _check_space(store: ModalityStore, target: Path, size: tuple[int, int], form: str) -> None:
    """Refuse what will not fit, where that is known beforehand."""
    bytes_a_pixel = FORMS[form].raw_bytes
    if bytes_a_pixel is None:
        return
    there = sum(file.stat().st_blocks * 512 for file in target.rglob(DATA_FILE))
    needed = _frames(store) * size[0] * size[1] * bytes_a_pixel - there
    free = shutil.disk_usage(target).free
    if needed > free:
        raise MscoreError(
            f"{target}: {form} frames take {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free; "
            "free some, or choose another form"
        )


def _reading_seconds(store: ModalityStore, episodes: ModalityStore, size: tuple[int, int]) -> float:
    """CPU time to read a frame, on the first chunks of an episode that both datasets have."""
    name = next(iter(episodes.episodes), None)
    if name is None:
        return float("nan")
    frames = np.arange(min(episodes.episodes[name].frames, _MEASURED_CHUNKS * store.chunk_frames))
    out = np.empty((len(frames), size[1], size[0], 3), np.uint8)
    reader = ImageReader(store, *size, threads=1)
    reader.read_into([(name, frames, out)])  # opens the codec
    start = time.thread_time()
    reader.read_into([(name, frames, out)])
    return (time.thread_time() - start) / len(frames)


def _carry_over(source: Path, target: Path) -> None:
    """Copy the modalities that are no images, the events, and the spaces where there are some."""
    stored = read_spaces([source])
    if stored is not None:
        write_spaces(target, stored)
    for folder in sorted(entry for entry in source.iterdir() if entry.is_dir()):
        modality = modality_of(folder.name)
        if folder.name == EVENT_FOLDER:
            _copy(folder, target / EVENT_FOLDER)
        elif modality is not None and modality != IMAGE:
            for part in find_parts(source, modality)[0]:
                _copy(part.file.parent, target / folder.name / part.file.parent.name)


def _copy(folder: Path, place: Path) -> None:
    """Copy an LMDB environment's folder, so that it is there whole or not at all."""
    if not (folder / DATA_FILE).is_file() or (place / DATA_FILE).exists():
        return
    draft = place.with_name(f".{place.name}{DRAFT_SUFFIX}")
    draft.mkdir(parents=True, exist_ok=True)
    with (folder / DATA_FILE).open("rb") as original, (draft / DATA_FILE).open("wb") as copy:
        shutil.copyfileobj(original, copy, 1 << 24)
        copy.flush()
        os.fsync(copy.fileno())
    draft.rename(place)
