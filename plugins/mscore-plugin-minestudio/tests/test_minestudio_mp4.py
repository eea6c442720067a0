"""The boxes of MP4 files, as they are and as they should not be."""

import io
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mscore_plugin_minestudio.frames.forms import encode_jpeg, encode_video
from mscore_plugin_minestudio.frames.mp4 import H264, MJPEG, VideoError, read_track

PICTURES = np.random.default_rng(0).integers(0, 256, (32, 48, 64, 3), dtype=np.uint8)


def make(codec="libx264", frames=32, movflags="", sound=False):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        write(file, codec, frames, movflags, sound)
        return file.read_bytes()


def write(file, codec, frames, movflags, sound):
    with av.open(str(file), "w", options={"movflags": movflags} if movflags else {}) as container:
        if sound:
            hum = container.add_stream("aac", rate=48000, layout="mono")
        video = container.add_stream(codec, rate=20)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            container.mux(video.encode(av.VideoFrame.from_ndarray(PICTURES[number % 32], format="rgb24")))
            if sound:
                tone = av.AudioFrame.from_ndarray(np.zeros((1, 2400), np.float32), format="fltp", layout="mono")
                tone.rate = 48000
                container.mux(hum.encode(tone))
        container.mux(video.encode())


def demuxed(raw):
    """The encoded frames, as FFmpeg finds them."""
    with av.open(io.BytesIO(raw)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


MANY_RUNS = make(frames=100, sound=True)
"""Sound and pictures take turns, so that the frames lie in many places."""


@pytest.mark.parametrize(
    ("raw", "codec"),
    [
        (make(), H264),
        (make(movflags="faststart"), H264),
        (MANY_RUNS, H264),
        (encode_video(PICTURES), H264),
        (encode_jpeg(PICTURES), MJPEG),
    ],
    ids=["h264", "faststart", "many runs", "ours", "jpeg"],
)
def test_the_samples_are_those_that_ffmpeg_finds(raw, codec):
    track = read_track(raw)
    assert (track.codec, track.width, track.height) == (codec, 64, 48)
    assert [raw[offset : offset + size] for offset, size in track.samples] == demuxed(raw)
    with av.open(io.BytesIO(raw)) as container:
        assert track.extradata == (container.streams.video[0].codec_context.extradata if codec == H264 else b"")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "no MP4 file"),
        (bytes(100), "no MP4 file"),
        (b"\0\0\0\7ftypisom" + bytes(9), "malformed"),
        (make("mpeg4"), r"'mp4v': expected H\.264"),
        (make("libx265"), "'h.*': expected H.264"),
        (MANY_RUNS[: len(MANY_RUNS) // 2], "truncated"),
        (make().replace(b"avc1\0", b"av01\0"), "'av01': expected H.264"),
        (make().replace(b"avcC", b"avcX"), "lack `avcC`"),
        (make().replace(b"vide", b"soun"), "no video track"),
        (make().replace(b"stco", b"stxx"), "lack `stco`"),
        (make().replace(b"stsz", b"stzz"), "lack `stsz`"),
        (make(movflags="frag_keyframe+empty_moov"), "fragmented"),
    ],
)
def test_other_files_are_refused(raw, message):
    with pytest.raises(VideoError, match=message):
        read_track(raw)


def table(raw, kind):
    """Where the content of a box of the last sample table, the video's, begins."""
    return raw.index(kind, raw.rindex(b"stbl")) + 4


def with_number(raw, kind, place, number):
    start = table(raw, kind) + place
    return raw[:start] + number.to_bytes(4, "big") + raw[start + 4 :]


@pytest.mark.parametrize(
    ("kind", "place", "number"),
    [
        (b"stsz", 8, 2**32 - 1),  # frames
        (b"stsz", 4, 2**31),  # bytes of every frame
        (b"stsz", 12, 2**32 - 1),  # bytes of the first
        (b"stco", 4, 2**32 - 1),  # runs
        (b"stco", 8, 2**32 - 1),  # place of the first
        (b"stsc", 4, 2**32 - 1),
        (b"stsc", 8, 0),  # number of the first run
        (b"stsc", 8, 2**32 - 1),
        (b"stsc", 12, 0),  # frames of a run
        (b"stsd", 4, 7),  # descriptions
        (b"stsd", 8, 3),  # bytes of one
    ],
)
def test_numbers_that_lead_astray_are_refused(kind, place, number):
    with pytest.raises(VideoError):
        read_track(with_number(MANY_RUNS, kind, place, number))


def test_a_huge_picture_is_refused():
    raw = make()
    start = raw.index(b"avc1", raw.index(b"stsd")) + 4 + 24
    with pytest.raises(VideoError, match="65535x48"):
        read_track(raw[:start] + b"\xff\xff" + raw[start + 2 :])


def test_runs_out_of_order_are_refused():
    """They would be gone through again and again."""
    raw = MANY_RUNS
    start = table(raw, b"stsc")
    (count,) = [int.from_bytes(raw[start + 4 : start + 8], "big")]
    assert count > 1
    with pytest.raises(VideoError, match="out of order"):
        read_track(with_number(raw, b"stsc", 8 + 12, 2**31))


CHUNK = make()
MOVIE = CHUNK.index(b"moov")


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.integers(MOVIE, len(CHUNK) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 200),
)
@example([], len(CHUNK))
def test_no_bytes_lead_outside(changes, cut):
    raw = bytearray(CHUNK)
    for place, value in changes:
        raw[place] = value
    raw = bytes(raw[: len(raw) - cut])
    try:
        track = read_track(raw)
    except VideoError:
        return
    assert all(offset >= 0 and offset + size <= len(raw) for offset, size in track.samples)
    assert len(track.samples) <= len(raw)
