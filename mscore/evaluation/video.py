"""Films and contact sheets of played episodes, written with PyAV."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np

from mscore.evaluation.captions import strip
from mscore.evaluation.rollouts import EpisodeResult, Picture

_READABLE = 320
"""Smaller pictures are enlarged by a whole factor until their longer side reaches this many pixels."""
_LARGEST = 1280
"""Pictures wider or higher than this many pixels are thinned out by a whole factor."""
_FONT_SCALE = 2
_GREEN, _RED, _WHITE = (80, 220, 100), (240, 90, 80), (255, 255, 255)


class Film:
    """Records episodes into an H.264 film (MP4) that plays them one after another.

    Frames are encoded as they come, so that long episodes need no memory. The film appears under its
    name when it is complete. Every episode ends with a still of about a second that tells its outcome.

    Args:
        path: of the film.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = _partial(path)
        self._container: Any = None
        self._stream: Any = None
        self._rate = 0
        self._seed = 0
        self._step = 0
        self._last: Picture | None = None

    def episode_start(self, seed: int, frames_per_second: int) -> None:
        """Begin an episode; the first one sets how fast the film plays."""
        self._rate = self._rate or frames_per_second
        self._seed, self._step, self._last = seed, 0, None

    def frame(self, picture: Picture) -> None:
        """Append a picture with a caption; the first one sets the film's size."""
        picture = _readable(picture)
        self._write(_captioned(picture, f"seed {self._seed}  step {self._step}", _WHITE))
        self._last = picture
        self._step += 1

    def episode_end(self, result: EpisodeResult) -> None:
        """Append the still with the episode's outcome."""
        if self._last is not None:
            still = _captioned(self._last, *_outcome(result))
            for _ in range(self._rate):
                self._write(still)

    def close(self, complete: bool = True) -> None:
        """Finish the film and put it in place; or drop it if it is not ``complete`` or has no frame."""
        if self._container is None:
            return
        try:
            if complete:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()
            self._container = None
            if complete:
                os.replace(self._partial, self.path)
            else:
                self._partial.unlink(missing_ok=True)

    def _write(self, picture: Picture) -> None:
        if self._container is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._partial), "w", format="mp4", options={"movflags": "faststart"})
            self._stream = self._container.add_stream("h264", rate=self._rate)
            # Players that people have at hand want 4:2:0, which needs even sides.
            self._stream.pix_fmt = "yuv420p"
            self._stream.height, self._stream.width = (side + side % 2 for side in picture.shape[:2])
        frame = av.VideoFrame.from_ndarray(_fitted(picture, self._stream.height, self._stream.width))
        self._container.mux(self._stream.encode(frame))


class ContactSheet:
    """Collects a few evenly spaced pictures of each episode and writes them as one PNG, a row each.

    Args:
        path: of the picture.
        columns: pictures per episode.
    """

    def __init__(self, path: Path, columns: int = 6) -> None:
        self.path = path
        self._columns = columns
        self._rows: list[tuple[EpisodeResult, list[Picture]]] = []
        self._kept: list[Picture] = []
        self._spacing = 1
        self._seen = 0
        self._last: Picture | None = None

    def episode_start(self, seed: int, frames_per_second: int) -> None:
        """Begin an episode's row."""
        self._kept, self._spacing, self._seen, self._last = [], 1, 0, None

    def frame(self, picture: Picture) -> None:
        """See a picture; how many are kept does not depend on the episode's length."""
        self._last = _readable(picture).copy()
        if self._seen % self._spacing == 0:
            self._kept.append(self._last)
            if len(self._kept) == 4 * self._columns:
                self._kept = self._kept[::2]
                self._spacing *= 2
        self._seen += 1

    def episode_end(self, result: EpisodeResult) -> None:
        """Complete the episode's row: its first and last picture, and those between."""
        if self._last is not None:
            pictures = [*self._kept[:-1], self._last]
            places = np.linspace(0, len(pictures) - 1, min(self._columns, len(pictures))).round().astype(int)
            self._rows.append((result, [pictures[place] for place in places]))

    def close(self, complete: bool = True) -> None:
        """Write the picture; nothing if it is not ``complete`` or has no episode."""
        if not complete or not self._rows:
            return
        height, width = self._rows[0][1][0].shape[:2]
        gap = 4
        rows = []
        for result, pictures in self._rows:
            cells = np.zeros((height, self._columns * (width + gap) - gap, 3), dtype=np.uint8)
            for column, picture in enumerate(pictures):
                cells[:, column * (width + gap) :][:, :width] = _fitted(picture, height, width)
            rows.append(_captioned(cells, *_outcome(result)))
        write_png(self.path, np.concatenate(rows))


class Camera:
    """Hands every picture to several recorders."""

    def __init__(self, recorders: list[Film | ContactSheet]) -> None:
        self._recorders = recorders

    def episode_start(self, seed: int, frames_per_second: int) -> None:
        """Begin an episode."""
        for recorder in self._recorders:
            recorder.episode_start(seed, frames_per_second)

    def frame(self, picture: Picture) -> None:
        """Record a picture."""
        for recorder in self._recorders:
            recorder.frame(picture)

    def episode_end(self, result: EpisodeResult) -> None:
        """End an episode."""
        for recorder in self._recorders:
            recorder.episode_end(result)


@contextmanager
def filming(video: Path | None, picture: Path | None) -> Iterator[Camera]:
    """A camera for a rollout; its film and its contact sheet are written unless something is raised inside."""
    recorders: list[Film | ContactSheet] = []
    if video is not None:
        recorders.append(Film(video))
    if picture is not None:
        recorders.append(ContactSheet(picture))
    complete = False
    try:
        yield Camera(recorders)
        complete = True
    finally:
        for recorder in recorders:
            recorder.close(complete)


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture (H, W, 3) as PNG; it appears under its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _appearing(path) as partial, av.open(str(partial), "w", format="image2", options={"update": "1"}) as file:
        stream: Any = file.add_stream("png", rate=1)
        stream.pix_fmt = "rgb24"
        stream.height, stream.width = picture.shape[:2]
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture))))
        file.mux(stream.encode())


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of ``path`` if nothing is raised inside."""
    partial = _partial(path)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _outcome(result: EpisodeResult) -> tuple[str, tuple[int, int, int]]:
    verdict = {True: "success", False: "failed", None: ""}[result.success]
    colour = {True: _GREEN, False: _RED, None: _WHITE}[result.success]
    # A narrow film cuts the text off: what matters most comes first.
    text = f"seed {result.seed} {verdict} steps {result.length} return {result.episode_return:.2f}"
    return " ".join(text.split()), colour


def _captioned(picture: Picture, text: str, colour: tuple[int, int, int]) -> Picture:
    return np.concatenate([strip(text, picture.shape[1], scale=_FONT_SCALE, colour=colour), picture])


def _readable(picture: Picture) -> Picture:
    longer = max(picture.shape[:2])
    if longer > _LARGEST:
        thin = -(-longer // _LARGEST)
        return picture[::thin, ::thin]
    factor = -(-_READABLE // longer)
    return picture.repeat(factor, 0).repeat(factor, 1) if factor > 1 else picture


def _fitted(picture: Picture, height: int, width: int) -> Picture:
    """The picture in the upper left of a canvas of this size, cut off where it is larger."""
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    visible = picture[:height, :width]
    canvas[: visible.shape[0], : visible.shape[1]] = visible
    return canvas
