"""From the payload of an image chunk to frames in a batch.

A payload is told by its first bytes: an MP4 file (H.264, as MineStudio writes it; or MJPEG, each frame by
itself), or raw frames (ours, :mod:`mscore_plugin_minestudio.frames.raw_chunks`). Nothing else is decoded.
"""

from collections.abc import Generator, Sequence
from threading import Lock
from typing import Any, Protocol

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from mscore_plugin_minestudio.frames import raw_chunks
from mscore_plugin_minestudio.frames.mp4 import MAX_SIDE, MJPEG, VideoError, VideoTrack, read_track

# From PyAV 17 on, a conversion uses all cores unless told not to.
_ONE_THREAD: dict[str, Any] = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}

MAX_IDLE = 64
"""Codecs that are kept without work. Chunks of one writer share one; a dataset might have another for each."""


class ChunkFrames(Protocol):
    """The frames of one chunk, read forwards.

    Attributes:
        frames: how many the chunk holds.
        width: pixels, as stored.
        height: pixels, as stored.
    """

    frames: int
    width: int
    height: int

    @property
    def position(self) -> int | None:
        """The next frame, where reading on saves decoding those before it again; else None."""
        ...

    def read_into(self, numbers: Sequence[int], out: NDArray[np.uint8]) -> None:
        """Write frames into a batch.

        Args:
            numbers: frames of the chunk, at least one, ascending, from ``position`` on.
            out: (len(numbers), height, width, 3) uint8, C-contiguous; becomes RGB. Frames of another size are
                resized by OpenCV's ``INTER_LINEAR``.

        Raises:
            VideoError: the video is damaged.
        """
        ...

    def close(self) -> None:
        """Let go of what decodes."""
        ...


class Decoders:
    """Codecs that stay open from chunk to chunk, for all that decode at the same time.

    Opening a codec, and letting it allocate its frames anew, costs as much as decoding several frames. A set
    may be used by several threads at once.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._idle: list[_Decoder] = []

    def open(self, payload: bytes | memoryview) -> ChunkFrames:
        """The frames of a payload, which must stay readable until they are read or have a ``position``.

        Raises:
            VideoError: it is of no known form, or malformed.
        """
        if payload[: len(raw_chunks.MAGIC)] == raw_chunks.MAGIC:
            return _RawFrames(payload)
        if payload[4:8] != b"ftyp":
            raise VideoError("it is no image chunk: neither an MP4 file nor raw frames, or a truncated one")
        raw = bytes(payload)
        track = read_track(raw)
        kind = _EncodedPictures if track.codec == MJPEG else _Video
        return kind(raw, track, self)

    def take(self, track: VideoTrack) -> "_Decoder":
        """A codec for this track, which nobody else uses."""
        key = (track.codec, track.extradata)
        with self._lock:
            for place in reversed(range(len(self._idle))):
                if self._idle[place].key == key:
                    return self._idle.pop(place)
        return _Decoder(track)

    def give_back(self, decoder: "_Decoder") -> None:
        """Keep a codec for the next chunk."""
        with self._lock:
            self._idle.append(decoder)
            if len(self._idle) > MAX_IDLE:
                del self._idle[0]


class _Decoder:
    """A codec and a converter.

    Attributes:
        key: codec and extradata that it was opened for.
    """

    def __init__(self, track: VideoTrack) -> None:
        self.key = (track.codec, track.extradata)
        codec = av.CodecContext.create(track.codec, "r")
        assert isinstance(codec, VideoCodecContext)
        codec.extradata = track.extradata or None
        codec.thread_count = 1
        codec.options = {"max_pixels": str(MAX_SIDE * MAX_SIDE)}
        self._codec = codec
        self._converter = VideoReformatter()

    def decode(self, raw: bytes, samples: Sequence[tuple[int, int]]) -> Generator[av.VideoFrame]:
        """The frames of these samples, in the order of showing.

        Raises:
            VideoError: a sample cannot be decoded without damage.
        """
        try:
            for offset, size in samples:
                packet = av.Packet(size)  # FFmpeg reads a little past a packet's end; this one is padded
                packet.update(raw[offset : offset + size])
                yield from self._codec.decode(packet)
            yield from self._codec.decode(None)
        except FFmpegError as error:
            raise VideoError(f"its video is damaged ({error.strerror})") from error
        finally:
            self._codec.flush_buffers()

    def convert(self, frame: av.VideoFrame, out: NDArray[np.uint8]) -> None:
        """Write a frame as RGB in the size of ``out``."""
        # Four bytes a pixel convert and resize faster, but swscale then gives the last columns of some widths
        # other values, and with PyAV 13 writes beyond the frame.
        plane: Any = self._converter.reformat(frame, format="rgb24", **_ONE_THREAD).planes[0]
        shape = (plane.height, plane.width, 3)
        fit(np.ndarray(shape, np.uint8, plane, strides=(plane.line_size, 3, 1)), out)


def fit(picture: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Write a picture into another, resized by ``INTER_LINEAR`` where their sizes differ.

    Args:
        picture: (h, w, 3) uint8.
        out: (height, width, 3) uint8, C-contiguous.
    """
    if picture.shape == out.shape:
        np.copyto(out, picture)
    else:
        cv2.resize(picture, out.shape[1::-1], dst=out, interpolation=cv2.INTER_LINEAR)


class _Video:
    """Frames that depend on those before: decoding goes on where it stopped."""

    def __init__(self, raw: bytes, track: VideoTrack, decoders: Decoders) -> None:
        self.frames = len(track.samples)
        self.width = track.width
        self.height = track.height
        self._next = 0
        self._decoders = decoders
        self._decoder = decoders.take(track)
        self._decoded = self._decoder.decode(raw, track.samples)

    @property
    def position(self) -> int | None:
        return self._next if self._next < self.frames else None

    def read_into(self, numbers: Sequence[int], out: NDArray[np.uint8]) -> None:
        for number, target in zip(numbers, out, strict=True):
            while self._next < number:
                self._decode_next()
            self._decoder.convert(self._decode_next(), target)
        if self._next == self.frames and next(self._decoded, None) is not None:
            raise VideoError(f"its video gives more than the {self.frames} frames that it lists")

    def _decode_next(self) -> av.VideoFrame:
        frame = next(self._decoded, None)
        if frame is None:
            raise VideoError(f"its video gives {self._next} of the {self.frames} frames that it lists")
        if frame.is_corrupt:
            raise VideoError(f"its video is damaged at frame {self._next}")
        self._next += 1
        return frame

    def close(self) -> None:
        self._decoded.close()
        self._decoders.give_back(self._decoder)


class _EncodedPictures:
    """Frames that are encoded each by itself: only those wanted are decoded."""

    position: int | None = None

    def __init__(self, raw: bytes, track: VideoTrack, decoders: Decoders) -> None:
        self.frames = len(track.samples)
        self.width = track.width
        self.height = track.height
        self._raw = raw
        self._samples = track.samples
        self._decoders = decoders
        self._decoder = decoders.take(track)

    def read_into(self, numbers: Sequence[int], out: NDArray[np.uint8]) -> None:
        for number, target in zip(numbers, out, strict=True):
            frames = list(self._decoder.decode(self._raw, self._samples[number : number + 1]))
            if len(frames) != 1 or frames[0].is_corrupt:
                raise VideoError(f"its frame {number} is damaged")
            self._decoder.convert(frames[0], target)

    def close(self) -> None:
        self._decoders.give_back(self._decoder)


class _RawFrames:
    """Frames that need no decoding."""

    position: int | None = None

    def __init__(self, raw: bytes | memoryview) -> None:
        self._array = raw_chunks.unpack(raw)
        self.frames, self.height, self.width = self._array.shape[:3]

    def read_into(self, numbers: Sequence[int], out: NDArray[np.uint8]) -> None:
        first, last = numbers[0], numbers[-1]
        if self._array.shape[1:] == out.shape[1:] and last - first + 1 == len(numbers):
            np.copyto(out, self._array[first : last + 1])
        else:
            for number, target in zip(numbers, out, strict=True):
                fit(self._array[number], target)

    def close(self) -> None:
        pass
