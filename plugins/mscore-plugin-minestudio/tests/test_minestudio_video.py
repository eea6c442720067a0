"""Frames are those of MineStudio's reader, whatever window they are read in, and damage is found."""

import hashlib
import io
import json
import multiprocessing
import pickle
import resource
import threading
import time
from collections import Counter

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mscore_plugin_minestudio.frames.encoding import encode_chunk
from mscore_plugin_minestudio.frames.forms import FORMS
from mscore_plugin_minestudio.frames.mp4 import read_track
from mscore_plugin_minestudio.frames.reader import ImageReader
from mscore_plugin_minestudio.storage.layout import DatasetError, chunk_key
from mscore_plugin_minestudio.storage.modality import ModalityStore
from mscore_plugin_minestudio.storage.parts import Part
from mscore_plugin_minestudio.storage.payloads import dump_payload
from mscore_plugin_minestudio.storage.store import open_catalog
from torch.utils.data import DataLoader, Dataset

LONG = "Player3-dddddd-20220103-083000"
"""The golden episode of 384 frames."""


@pytest.fixture(scope="module")
def store(golden):
    return open_catalog([golden / "dataset"], ["image"]).stores["image"]


@pytest.fixture(scope="module")
def hashes(golden):
    return json.loads((golden / "out" / "index.json").read_text())["frame_hashes"]


@pytest.fixture(scope="module")
def frames(store):
    """The long episode, 384 frames of 128x128."""
    return read(ImageReader(store, 128, 128, threads=1), np.arange(384))


def sha16(frame):
    return hashlib.sha256(frame.tobytes()).hexdigest()[:16]


def read(reader, numbers, episode=LONG):
    out = np.full((len(numbers), reader.height, reader.width, 3), 7, np.uint8)
    reader.read_into([(episode, np.asarray(numbers), out)])
    return out


class CountingStore(ModalityStore):
    """Counts how often each chunk is read."""

    def __init__(self, store):
        self.__dict__.update(store.__dict__)
        self.reads = Counter()

    def borrow_chunk(self, episode, start):
        self.reads[episode, start] += 1
        return super().borrow_chunk(episode, start)


@pytest.mark.parametrize("threads", [1, 3, None])
@pytest.mark.parametrize("size", [224, 128])
def test_every_frame_is_minestudios_own(store, hashes, size, threads):
    reader = ImageReader(store, size, size, threads=threads)
    assert reader.stored_size == (224, 224)
    outs = {name: np.zeros((record.frames, size, size, 3), np.uint8) for name, record in store.episodes.items()}
    reader.read_into([(name, np.arange(len(out)), out) for name, out in outs.items()])
    for name, out in outs.items():
        assert [sha16(frame) for frame in out] == hashes[name][f"rgb24_{size}_sha256_16"]


@pytest.mark.parametrize("window", [1, 5, 16, 20, 32, 100])
def test_consecutive_windows_read_a_chunk_once(store, frames, window):
    counting = CountingStore(store)
    reader = ImageReader(counting, 128, 128, threads=1)
    for start in range(0, 384, window):
        numbers = np.arange(start, min(start + window, 384))
        assert (read(reader, numbers) == frames[numbers]).all()
    assert set(counting.reads.values()) == {1}


def test_windows_that_skip_frames_go_on_too(store, frames):
    counting = CountingStore(store)
    reader = ImageReader(counting, 128, 128, threads=1)
    for start in range(0, 384, 24):
        numbers = np.arange(start, start + 24, 3)
        assert (read(reader, numbers) == frames[numbers]).all()
    assert set(counting.reads.values()) == {1}


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_of_a_batch_play_several_episodes(store, hashes, threads):
    counting = CountingStore(store)
    reader = ImageReader(counting, 128, 128, threads=threads)
    names = [name for name, record in store.episodes.items() if record.frames >= 96]
    for start in range(0, 96, 12):
        batch = np.zeros((len(names), 12, 128, 128, 3), np.uint8)
        reader.read_into([(name, np.arange(start, start + 12), row) for name, row in zip(names, batch, strict=True)])
        for name, row in zip(names, batch, strict=True):
            assert [sha16(frame) for frame in row] == hashes[name]["rgb24_128_sha256_16"][start : start + 12]
    assert set(counting.reads.values()) == {1}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 383), min_size=1, max_size=12, unique=True).map(sorted), min_size=1, max_size=6)
)
def test_any_windows_in_any_order(store, frames, windows):
    reader = ImageReader(store, 128, 128, threads=2)
    for numbers in windows:
        assert (read(reader, numbers) == frames[numbers]).all()
    outs = [np.empty((len(numbers), 128, 128, 3), np.uint8) for numbers in windows]
    reader.read_into([(LONG, np.asarray(numbers), out) for numbers, out in zip(windows, outs, strict=True)])
    for numbers, out in zip(windows, outs, strict=True):
        assert (out == frames[numbers]).all()


def test_frames_may_change_their_shape(store, frames):
    """Height and width do not change places."""
    wide = read(ImageReader(store, 160, 90), np.arange(4))
    assert wide.shape == (4, 90, 160, 3)
    assert np.abs(wide.mean((0, 1, 2)) - frames[:4].mean((0, 1, 2))).max() < 1


def _read_in_process(reader, queue):
    queue.put(sha16(read(reader, np.arange(20, 70))))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_reader_may_be_sent_to_other_processes(store, frames, method):
    reader = ImageReader(store, 128, 128, threads=2)
    read(reader, np.arange(40))  # it has threads, codecs and half a chunk
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=_read_in_process, args=(reader, queue))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert queue.get() == sha16(frames[20:70])
    assert (read(reader, np.arange(40, 70)) == frames[40:70]).all()


class ThreadCounts(Dataset):
    """Reads in a loader's worker, and tells with how many threads."""

    def __init__(self, reader):
        self.reader = reader

    def __len__(self):
        return 2

    def __getitem__(self, index):
        frames = read(self.reader, np.arange(32))
        return threading.active_count(), cv2.getNumThreads(), self.reader._process.executor is None, sha16(frames)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loaders_worker_decodes_in_one_thread(store, frames, method):
    before = cv2.getNumThreads()
    reader = ImageReader(store, 128, 128)
    read(reader, np.arange(64))
    loader = DataLoader(ThreadCounts(reader), batch_size=None, num_workers=1, multiprocessing_context=method)
    for threads, of_opencv, alone, digest in loader:
        assert (of_opencv, alone, digest) == (1, True, sha16(frames[:32]))
        assert threads <= 2  # one feeds the loader's queue
    assert cv2.getNumThreads() == before


def test_a_loaders_worker_is_not_stopped_by_opencvs_sleeping_threads(store, frames):
    # A forked process that ends OpenCV's threads waits for them for ever: they sleep in the process that it came from.
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        for _ in range(5):
            cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 2)
        time.sleep(0.5)
        reader = ImageReader(store, 128, 128)
        loader = DataLoader(
            ThreadCounts(reader), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=20
        )
        assert [digest for *_, digest in loader] == [sha16(frames[:32])] * 2
    finally:
        cv2.setNumThreads(before)


def test_a_copy_takes_nothing_open_along(store):
    reader = ImageReader(store, 128, 128)
    read(reader, np.arange(40))
    assert pickle.loads(pickle.dumps(reader))._process is None


def test_memory_stays_flat(store):
    """Each round decodes 384 frames: 12 MB of them, and as much again in what codecs and converters need."""
    reader = ImageReader(store, 128, 128, threads=2)

    def rounds(count):
        for _ in range(count):
            read(reader, np.arange(384))
            read(reader, np.arange(100, 150))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    before = rounds(3)
    assert rounds(12) - before < 15


# Datasets of other forms


@pytest.fixture
def pictures():
    """64 smooth pictures of 96x64 that differ."""
    y, x = np.mgrid[:64, :96]
    waves = [np.sin((x + 2 * t) / 9) + np.cos((y - t) / 7) for t in range(64)]
    return np.stack([np.stack([60 * wave + 128, 128 - 50 * wave, x + y], -1) for wave in waves]).astype(np.uint8)


def make_store(folder, edit, payloads):
    """A part of one episode ``e`` with these chunks."""
    values = {
        b"__chunk_size__": dump_payload(32),
        b"__chunk_infos__": dump_payload([{"episode": "e", "episode_idx": 0, "num_frames": 32 * len(payloads)}]),
        b"__num_episodes__": dump_payload(1),
        b"__num_total_frames__": dump_payload(32 * len(payloads)),
    }
    edit(folder, values | {chunk_key(0, 32 * number): payload for number, payload in enumerate(payloads)})
    return ModalityStore("image", [Part(folder)])


@pytest.mark.parametrize(("form", "error"), [("video", 4), ("jpeg", 4), ("raw", 0)])
def test_every_form_is_read(tmp_path, edit, pictures, form, error):
    encode = FORMS[form].encode
    store = make_store(tmp_path / "part", edit, [encode(pictures[:32]), encode(pictures[32:])])
    reader = ImageReader(store, 96, 64)
    assert reader.stored_size == (96, 64)
    numbers = np.array([3, 4, 20, 31, 32, 50, 63])
    assert np.abs(read(reader, numbers, "e").astype(int) - pictures[numbers]).mean() <= error
    window = np.arange(20, 60)
    assert np.abs(read(reader, window, "e").astype(int) - pictures[window]).mean() <= error
    smaller = read(ImageReader(store, 48, 32), numbers, "e").astype(int)
    assert np.abs(smaller - pictures[numbers][:, ::2, ::2]).mean() < 10


@pytest.mark.parametrize("stored", [(640, 360), (322, 182), (90, 50), (84, 84)])
def test_any_size_is_converted_as_minestudio_does(tmp_path, edit, stored):
    """Its reader takes each frame as an RGB array, and resizes those that have another size."""
    frames = np.random.default_rng(0).integers(0, 256, (32, stored[1], stored[0], 3), dtype=np.uint8)
    payload = encode_chunk(frames, stored)
    store = make_store(tmp_path / "part", edit, [payload])
    with av.open(io.BytesIO(payload)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert (read(ImageReader(store, *stored), np.arange(32), "e") == decoded).all()
    for size in ((128, 128), (224, 224), (100, 60), (700, 400)):
        expected = [cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in decoded]
        assert (read(ImageReader(store, *size), np.arange(32), "e") == expected).all()


def test_raw_frames_are_resized_like_any(tmp_path, edit, pictures):
    store = make_store(tmp_path / "part", edit, [FORMS["raw"].encode(pictures[:32])])
    expected = [cv2.resize(picture, (50, 40), interpolation=cv2.INTER_LINEAR) for picture in pictures[:32]]
    assert (read(ImageReader(store, 50, 40), np.arange(32), "e") == expected).all()


def test_videos_of_different_writers_may_stand_side_by_side(tmp_path, edit, pictures):
    payloads = [
        encode_chunk(pictures[:32], (96, 64)),
        FORMS["video"].encode(pictures[32:]),
        FORMS["raw"].encode(pictures[:32]),
        FORMS["jpeg"].encode(pictures[32:]),
        encode_chunk(pictures[:32], (48, 32)),
    ]
    found = read(ImageReader(make_store(tmp_path / "part", edit, payloads), 96, 64), np.arange(160), "e")
    expected = np.concatenate([pictures, pictures, pictures[:32]])
    assert (np.abs(found.astype(int) - expected).mean((1, 2, 3)) < 20).all()


# Damage


def zeroed(payload):
    offset, size = read_track(payload).samples[9]
    return payload[: offset + size // 2] + bytes(size - size // 2) + payload[offset + size :]


def without_last_frame(payload):
    return encode_chunk(np.zeros((31, 224, 224, 3), np.uint8), (224, 224))


DAMAGE = {
    "empty": (lambda payload: b"", "no image chunk"),
    "a pickle": (lambda payload: dump_payload([1]), "no image chunk"),
    "cut in its frames": (lambda payload: payload[:5000], "truncated"),
    "cut in its boxes": (lambda payload: payload[:-300], "truncated"),
    "zeros in a frame": (zeroed, "its video is damaged"),
    "31 frames": (without_last_frame, "it holds 31 frames: expected 32"),
    "another codec": (lambda payload: payload.replace(b"avc1\0", b"hev1\0"), r"'hev1': expected H\.264"),
    "raw frames, cut": (
        lambda payload: FORMS["raw"].encode(np.zeros((32, 8, 8, 3), np.uint8))[:-1],
        "6176 bytes|bytes: expected",
    ),
    "raw frames, too few": (lambda payload: FORMS["raw"].encode(np.zeros((30, 8, 8, 3), np.uint8)), "30 frames"),
    "no codec data": (
        lambda payload: payload.replace(read_track(payload).extradata, bytes(len(read_track(payload).extradata))),
        "damaged",
    ),
}


def spoil(dataset, edit, store, start, change):
    """A store of a copy of the golden dataset, in which a chunk of the long episode is changed."""
    record = store.episodes[LONG]
    folder = dataset / "image" / record.part.file.parent.name
    edit(folder, {chunk_key(record.index, start): change(store.read_chunk(LONG, start))})
    return open_catalog([dataset], ["image"]).stores["image"]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_chunk_is_named(dataset, edit, store, frames, kind, threads):
    change, message = DAMAGE[kind]
    spoiled = spoil(dataset, edit, store, 64, change)
    reader = ImageReader(spoiled, 128, 128, threads=threads)
    with pytest.raises(DatasetError, match=message) as caught:
        read(reader, np.arange(40, 200))
    record = spoiled.episodes[LONG]
    assert caught.value.episode == LONG
    assert caught.value.key == chunk_key(record.index, 64).decode()
    assert caught.value.file == str(record.part.file)
    # The chunks around it are none the worse for it.
    assert (read(reader, np.arange(20, 64)) == frames[20:64]).all()
    assert (read(reader, np.arange(96, 200)) == frames[96:200]).all()


def test_a_damaged_frame_is_found_where_the_window_begins_behind_it(dataset, edit, store):
    reader = ImageReader(spoil(dataset, edit, store, 64, zeroed), 128, 128)
    with pytest.raises(DatasetError, match="its video is damaged"):
        read(reader, np.arange(90, 96))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_bytes_of_a_video_end_the_process(store, tmp_path_factory, data):
    """A changed video is refused, or decodes to something: that some changes are not noticed is in its nature."""
    from mscore_plugin_minestudio.frames.decoding import Decoders
    from mscore_plugin_minestudio.frames.mp4 import VideoError

    raw = bytearray(store.read_chunk(LONG, 0))
    for _ in range(data.draw(st.integers(1, 20))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    out = np.empty((32, 64, 64, 3), np.uint8)
    decoders = Decoders()
    try:
        chunk = decoders.open(bytes(raw))
        chunk.read_into(range(min(chunk.frames, 32)), out[: chunk.frames])
    except VideoError:
        pass
