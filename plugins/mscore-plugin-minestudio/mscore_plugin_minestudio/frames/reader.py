"""Reading the frames of many windows at once, straight into a batch."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.frames.decoding import ChunkFrames, Decoders
from mscore_plugin_minestudio.frames.mp4 import VideoError
from mscore_plugin_minestudio.storage.layout import DatasetError
from mscore_plugin_minestudio.storage.modality import ModalityStore

Request = tuple[str, NDArray[np.int64], NDArray[np.uint8]]
"""An episode, numbers of frames in it in ascending order, and where they go."""


class ImageReader:
    """Reads frames of a dataset, in one size.

    Pixels are those that MineStudio's reader gives, bit for bit: decoded, converted to RGB by swscale's
    defaults and, where the stored size is another, resized by OpenCV's ``INTER_LINEAR``.

    Codecs stay open from chunk to chunk, and a chunk that a window ends inside is kept half decoded until the
    next call: a window that goes on there costs what its own frames cost. The chunks of a call are decoded in
    parallel, one thread each. A reader may be sent to other processes, by fork or by spawn; one thread at a
    time may call it.

    Args:
        store: the images.
        width: pixels of a frame in the batch.
        height: pixels of a frame in the batch.
        threads: how many decode. None means one per core, and one in a worker of torch's ``DataLoader``, whose
            OpenCV is then told to use one as well.
    """

    def __init__(self, store: ModalityStore, width: int, height: int, *, threads: int | None = None) -> None:
        self.store = store
        self.width = width
        self.height = height
        self.threads = threads
        self._process: _Process | None = None

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height of the stored frames, as the first chunk of the first episode states them.

        Raises:
            DatasetError: it cannot be read, or there is no episode.
        """
        if not self.store.episodes:
            raise DatasetError(f"there is no episode with {self.store.modality}")
        first = next(iter(self.store.episodes))
        with self.store.borrow_chunk(first, 0) as payload:
            chunk = self._open(first, 0, payload, Decoders())
            return chunk.width, chunk.height

    def read_into(self, requests: Sequence[Request]) -> None:
        """Write the frames of windows into a batch.

        Args:
            requests: for each window its episode, the numbers (n,) of its frames in ascending order, and their
                place (n, height, width, 3) uint8 in the batch, C-contiguous, which becomes RGB.

        Raises:
            DatasetError: a chunk is missing, truncated or damaged, or has not as many frames as it should.
        """
        process = self._own()
        jobs = []
        for episode, numbers, out in requests:
            for span in self.store.spans(numbers):
                last = span.place.stop == len(numbers)
                jobs.append(_Job(episode, span.start, span.inside.tolist(), out[span.place], last))
        try:
            if process.executor is None or len(jobs) == 1:
                for job in jobs:
                    self._read(job, process)
            else:
                for _ in process.executor.map(lambda job: self._read(job, process), jobs):
                    pass
        finally:
            process.end_call()

    def _own(self) -> "_Process":
        """What this process decodes with."""
        if self._process is None or self._process.pid != os.getpid():
            self._process = _Process(_threads() if self.threads is None else self.threads)
        return self._process

    def _read(self, job: "_Job", process: "_Process") -> None:
        place = (job.episode, job.start)
        half = process.halves.pop(place, None)
        if half is not None and half.position is not None and half.position <= job.frames[0]:
            self._decode(job, half, process)
            return
        if half is not None:
            half.close()
        with self.store.borrow_chunk(*place) as payload:
            self._decode(job, self._open(*place, payload, process.decoders), process)

    def _decode(self, job: "_Job", chunk: ChunkFrames, process: "_Process") -> None:
        place = (job.episode, job.start)
        keep = False
        try:
            chunk.read_into(job.frames, job.out)
            keep = job.last and chunk.position is not None
        except VideoError as error:
            raise self._error(*place, error) from error
        finally:
            if not keep:
                chunk.close()
        if keep and process.next_halves.setdefault(place, chunk) is not chunk:
            chunk.close()

    def _open(self, episode: str, start: int, payload: memoryview, decoders: Decoders) -> ChunkFrames:
        try:
            chunk = decoders.open(payload)
        except VideoError as error:
            raise self._error(episode, start, error) from error
        if chunk.frames != self.store.chunk_frames:
            chunk.close()
            text = f"it holds {chunk.frames} frames: expected {self.store.chunk_frames}"
            raise self._error(episode, start, VideoError(text))
        return chunk

    def _error(self, episode: str, start: int, error: VideoError) -> DatasetError:
        hint = "convert the episode again, or leave it out (`on_error: skip`)"
        return self.store.error(episode, start, f"{error}; {hint}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None}


@dataclass(slots=True)
class _Job:
    """Frames of one chunk.

    Attributes:
        episode: its name.
        start: the chunk's first frame.
        frames: numbers in the chunk, ascending.
        out: where they go.
        last: they are the last of their window.
    """

    episode: str
    start: int
    frames: list[int]
    out: NDArray[np.uint8]
    last: bool


class _Process:
    """What one process decodes with; a forked one gets its own.

    Attributes:
        pid: the process.
        decoders: its codecs.
        executor: its threads; None where there is one only.
        halves: chunks that the windows of the last call ended inside, by episode and first frame.
        next_halves: those of the present call.
    """

    def __init__(self, threads: int) -> None:
        self.pid = os.getpid()
        self.decoders = Decoders()
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="decode") if threads > 1 else None
        self.halves: dict[tuple[str, int], ChunkFrames] = {}
        self.next_halves: dict[tuple[str, int], ChunkFrames] = {}

    def end_call(self) -> None:
        """Let go of the halves that the call did not need, and keep its own for the next."""
        for chunk in self.halves.values():
            chunk.close()
        self.halves, self.next_halves = self.next_halves, {}


def _threads() -> int:
    """How many threads decode here, where nobody says it."""
    from torch.utils.data import get_worker_info  # scripts that tell the number need no torch

    if get_worker_info() is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # The process is the loader's: its other workers have the other cores.
    # Zero, not one: for one OpenCV ends the threads it has, and waits for those of a parent that is no longer its own.
    cv2.setNumThreads(0)
    return 1
