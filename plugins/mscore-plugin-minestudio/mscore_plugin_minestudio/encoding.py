"""Chunks of frames as MineStudio stores them: a complete MP4 file each."""

import io

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

FPS = 20
"""Frames per second of Minecraft's recordings."""

_BIT_RATE = 1_024_000
"""What PyAV asked of a new stream when MineStudio wrote its sets; later versions ask nothing."""


def encode_chunk(frames: NDArray[np.uint8], size: tuple[int, int], fps: int = FPS) -> bytes:
    """Encode frames as MineStudio's converter does.

    H.264, High profile, yuv420p, 1024 kbit/s on average, in MP4; frames of another size are scaled by
    swscale, without keeping their aspect. One thread encodes, so that the bytes do not depend on the machine's
    number of cores.

    Args:
        frames: (T, height, width, 3) uint8, RGB.
        size: width and height to store, even numbers.
        fps: frames per second.
    """
    width, height = size
    file = io.BytesIO()
    scale = VideoReformatter()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = _BIT_RATE
        stream.codec_context.thread_count = 1
        for array in frames:
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            container.mux(stream.encode(scale.reformat(frame, width, height, "yuv420p", interpolation="BILINEAR")))
        container.mux(stream.encode())
    return file.getvalue()
