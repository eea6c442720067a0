"""The forms in which transcoded image chunks are stored."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mscore_plugin_minestudio.frames import raw_chunks
from mscore_plugin_minestudio.frames.encoding import FPS, REPRODUCIBLE


@dataclass(frozen=True)
class Form:
    """A form of image chunks.

    Attributes:
        encode: frames (T, height, width, 3) uint8, RGB, to the payload of a chunk.
        even_sides: it stores even sides only.
        raw_bytes: bytes of a pixel, where frames of a size always take the same; else None.
    """

    encode: Callable[[NDArray[np.uint8]], bytes]
    even_sides: bool = False
    raw_bytes: int | None = None


def encode_video(frames: NDArray[np.uint8]) -> bytes:
    """H.264 that decodes fast: no arithmetic coding and no deblocking (x264's ``fastdecode``), in MP4.

    Colour has half the resolution of brightness, as in MineStudio's own videos.
    """
    options = {"preset": "medium", "tune": "fastdecode", "crf": "17", **REPRODUCIBLE}
    return _encode(frames, "libx264", "yuv420p", options)


def encode_jpeg(frames: NDArray[np.uint8]) -> bytes:
    """JPEG pictures of high quality with colour in full resolution, in MP4 (Motion JPEG)."""
    return _encode(frames, "mjpeg", "yuvj444p", {"qmin": "3", "qmax": "3"})


FORMS = {
    "video": Form(encode_video, even_sides=True),
    "jpeg": Form(encode_jpeg),
    "raw": Form(raw_chunks.pack, raw_bytes=3),
}
"""Name, as the command line takes it, to form."""


def _encode(frames: NDArray[np.uint8], codec: str, pixels: str, options: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=FPS, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        # PyAV 12 asks for 1 Mbit/s unless told otherwise, and x264 then takes no notice of the quality.
        stream.bit_rate = 0
        stream.codec_context.thread_count = 1
        for array in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
