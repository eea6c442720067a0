"""Chunks of frames as MineStudio stores them: a complete MP4 file each."""

import io
import platform

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

FPS = 20
"""Frames per second of Minecraft's recordings."""

_BIT_RATE = 1_024_000
"""What PyAV asked of a new stream when MineStudio wrote its sets; later versions ask nothing."""


# x264's AVX-512 code gives other bytes each time (it weighs macroblocks by memory that it did not write), and its
# AVX2 code other bytes than the rest. With this it computes what its plain C code does, on every processor.
REPRODUCIBLE = {"x264-params": "asm=sse2"} if platform.machine() in ("x86_64", "AMD64") else {}
"""Options of libx264 with which the same frames give the same bytes; they cost a tenth of the time."""


def encode_chunk(frames: NDArray[np.uint8], size: tuple[int, int], fps: int = FPS) -> bytes:
    """Encode frames as MineStudio's converter does.

    H.264, High profile, yuv420p, 1024 kbit/s on average, in MP4; frames of another size are scaled by
    swscale, without keeping their aspect. The same frames give the same bytes: one thread encodes, whatever the
    machine's number of cores, and without what is not reproducible in x264.

    Args:
        frames: (T, height, width, 3) uint8, RGB.
        size: width and height to store, even numbers.
        fps: frames per second.
    """
    width, height = size
    file = io.BytesIO()
    scale = VideoReformatter()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=REPRODUCIBLE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = _BIT_RATE
        stream.codec_context.thread_count = 1
        for array in frames:
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            container.mux(stream.encode(scale.reformat(frame, width, height, "yuv420p", interpolation="BILINEAR")))
        container.mux(stream.encode())
    return file.getvalue()
