"""The samples of an MP4 file in memory, without a demuxer.

FFmpeg's demuxer opens and closes decoders to find out what a file holds, which for a chunk of 32 frames is an
eighth of all work. What a chunk holds is known; where its frames lie is read from the boxes of ISO/IEC 14496-12.
Files are not trusted: every offset and count is checked before it is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import error as struct_error
from struct import unpack_from

from mscore import MscoreError

H264 = "h264"
MJPEG = "mjpeg"

MAX_SIDE = 4096
"""Pixels of a frame's side, at most."""

_MJPEG_OBJECT_TYPE = 0x6C
"""ISO/IEC 14496-1: JPEG in an MPEG-4 visual sample entry."""


class VideoError(MscoreError):
    """A video that is malformed, or of a kind that is not read."""


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """The first video track of a file.

    Attributes:
        codec: :data:`H264` or :data:`MJPEG`.
        extradata: what the decoder needs beforehand (H.264's ``avcC``); may be empty.
        width: pixels, as the file states it.
        height: pixels, as the file states it.
        samples: place and size in the file of every encoded frame, in the order of decoding.
    """

    codec: str
    extradata: bytes
    width: int
    height: int
    samples: list[tuple[int, int]]


def read_track(raw: bytes) -> VideoTrack:
    """Find the first video track of a file.

    Args:
        raw: an MP4 file that is not fragmented.

    Raises:
        VideoError: it is none, is malformed, or holds another codec.
    """
    try:
        movie = _find(raw, 0, len(raw), b"moov")
        if movie is None:
            raise VideoError("it is no MP4 file, or a truncated one (no `moov` box)")
        for kind, start, end in _boxes(raw, *movie):
            if kind == b"trak":
                media = _need(raw, start, end, b"mdia")
                handler, _ = _need(raw, *media, b"hdlr")
                if raw[handler + 8 : handler + 12] == b"vide":
                    return _read_table(raw, *_need(raw, *_need(raw, *media, b"minf"), b"stbl"))
    except (struct_error, IndexError) as error:
        raise VideoError(f"its MP4 boxes are malformed ({error})") from error
    raise VideoError("it has no video track")


def _boxes(raw: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of every box between two places."""
    while start < end:
        size, kind = unpack_from(">I4s", raw, start)
        head = 8
        if size == 1:
            (size,) = unpack_from(">Q", raw, start + 8)
            head = 16
        elif size == 0:
            size = end - start
        if size < head or start + size > end:
            raise VideoError(f"the MP4 box {kind!r} at byte {start} is truncated or malformed")
        yield kind, start + head, start + size
        start += size


def _find(raw: bytes, start: int, end: int, kind: bytes) -> tuple[int, int] | None:
    return next(((first, last) for found, first, last in _boxes(raw, start, end) if found == kind), None)


def _need(raw: bytes, start: int, end: int, kind: bytes) -> tuple[int, int]:
    found = _find(raw, start, end, kind)
    if found is None:
        raise VideoError(f"its MP4 boxes lack `{kind.decode()}`")
    return found


def _read_table(raw: bytes, start: int, end: int) -> VideoTrack:
    """The track of a sample table (``stbl``)."""
    boxes = {kind: (first, last) for kind, first, last in _boxes(raw, start, end)}
    for kind in (b"stsd", b"stsc", b"stsz"):
        if kind not in boxes:
            raise VideoError(f"its MP4 boxes lack `{kind.decode()}`")
    codec, extradata, width, height = _read_description(raw, *boxes[b"stsd"])
    sizes = _read_sizes(raw, *boxes[b"stsz"])
    if b"stco" in boxes:
        offsets = _read_numbers(raw, *boxes[b"stco"], "I")
    elif b"co64" in boxes:
        offsets = _read_numbers(raw, *boxes[b"co64"], "Q")
    else:
        raise VideoError("its MP4 boxes lack `stco`")
    runs = _read_runs(raw, *boxes[b"stsc"])
    if not sizes or not runs:
        raise VideoError("it lists no frames: it is empty, or a fragmented MP4 file")
    samples = _place(sizes, offsets, runs)
    if any(offset + size > len(raw) for offset, size in samples):
        raise VideoError("it is truncated: frames lie beyond its end")
    return VideoTrack(codec, extradata, width, height, samples)


def _read_description(raw: bytes, start: int, end: int) -> tuple[str, bytes, int, int]:
    """Codec, extradata, width and height of ``stsd``."""
    (count,) = unpack_from(">I", raw, start + 4)
    if count != 1:
        raise VideoError(f"its video track has {count} sample descriptions: expected one")
    kind, entry, entry_end = next(_boxes(raw, start + 8, end))
    width, height = unpack_from(">HH", raw, entry + 24)
    if not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE:
        raise VideoError(f"frames of {width}x{height}: expected sides of 1 to {MAX_SIDE} pixels")
    settings = entry + 78
    if kind == b"avc1":
        first, last = _need(raw, settings, entry_end, b"avcC")
        return H264, raw[first:last], width, height
    if kind == b"mp4v":
        first, last = _need(raw, settings, entry_end, b"esds")
        if _object_type(raw, first + 4, last) == _MJPEG_OBJECT_TYPE:
            return MJPEG, b"", width, height
    raise VideoError(f"its video is {kind.decode(errors='backslashreplace')!r}: expected H.264 (avc1) or MJPEG")


def _object_type(raw: bytes, start: int, end: int) -> int | None:
    """The object type of an elementary stream descriptor (ISO/IEC 14496-1, 7.2.6.5 and 7.2.6.6)."""
    tag, start = _descriptor(raw, start)
    if tag != 3:
        return None
    flags = raw[start + 2]
    start += 3
    if flags & 0x80:
        start += 2
    if flags & 0x40:
        start += 1 + raw[start]
    if flags & 0x20:
        start += 2
    tag, start = _descriptor(raw, start)
    return raw[start] if tag == 4 and start < end else None


def _descriptor(raw: bytes, start: int) -> tuple[int, int]:
    """Tag of a descriptor, and where its content starts; its length takes up to four bytes."""
    tag = raw[start]
    for place in range(start + 1, start + 5):
        if raw[place] < 0x80:
            break
    return tag, place + 1


def _read_sizes(raw: bytes, start: int, end: int) -> list[int]:
    """Bytes of each sample, from ``stsz``."""
    size, count = unpack_from(">II", raw, start + 4)
    if size:
        if size * count > len(raw):
            raise VideoError("it is truncated: frames lie beyond its end")
        return [size] * count
    return _numbers(raw, start + 12, end, count, "I")


def _read_numbers(raw: bytes, start: int, end: int, form: str) -> list[int]:
    """The numbers of a box that counts them first."""
    (count,) = unpack_from(">I", raw, start + 4)
    return _numbers(raw, start + 8, end, count, form)


def _read_runs(raw: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """First chunk (from 0) and samples a chunk of every run of ``stsc``."""
    (count,) = unpack_from(">I", raw, start + 4)
    numbers = _numbers(raw, start + 8, end, 3 * count, "I")
    return [(first - 1, samples) for first, samples in zip(numbers[::3], numbers[1::3], strict=True)]


def _numbers(raw: bytes, start: int, end: int, count: int, form: str) -> list[int]:
    if count * (4 if form == "I" else 8) > end - start:
        raise VideoError("its MP4 boxes are malformed (a table is longer than its box)")
    return list(unpack_from(f">{count}{form}", raw, start))


def _place(sizes: list[int], offsets: list[int], runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Place and size of every sample: samples lie one behind the other in the file's own chunks."""
    samples: list[tuple[int, int]] = []
    stops = [first for first, _ in runs[1:]] + [len(offsets)]
    for (first, per_chunk), stop in zip(runs, stops, strict=True):
        if not 0 <= first <= stop <= len(offsets):
            raise VideoError("its MP4 boxes are malformed (`stsc` is out of order)")
        for offset in offsets[first:stop]:
            for size in sizes[len(samples) : len(samples) + per_chunk]:
                samples.append((offset, size))
                offset += size
    if len(samples) != len(sizes):
        raise VideoError(f"its MP4 boxes place {len(samples)} of {len(sizes)} frames")
    return samples
