"""`mscore data transcode`: what a transcoded dataset holds, and what survives a kill."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import av
import lmdb
import numpy as np
import pytest
from click.testing import CliRunner
from filelock import FileLock
from mscore_plugin_minestudio.commands.transcode import transcode as command
from mscore_plugin_minestudio.frames.forms import FORMS
from mscore_plugin_minestudio.frames.reader import ImageReader
from mscore_plugin_minestudio.storage.layout import DatasetError, chunk_key
from mscore_plugin_minestudio.storage.store import open_catalog
from mscore_plugin_minestudio.transcoding import transcoding
from mscore_plugin_minestudio.transcoding.note import LOCK_FILE
from mscore_plugin_minestudio.transcoding.transcoding import transcode
from mscore_plugin_minestudio.writing.writer import DatasetWriter

from mscore import MscoreError

MODALITIES = ("image", "action", "meta_info", "segmentation")
LONG = "Player3-dddddd-20220103-083000"


def images(dataset, width=128, height=128):
    """Episode to its frames."""
    store = open_catalog([dataset], ["image"]).stores["image"]
    outs = {name: np.empty((record.frames, height, width, 3), np.uint8) for name, record in store.episodes.items()}
    ImageReader(store, width, height).read_into([(name, np.arange(len(out)), out) for name, out in outs.items()])
    return outs


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, frames in found.items():
        assert (frames == expected[name]).all()


@pytest.fixture(scope="module")
def original(golden):
    return images(golden / "dataset")


@pytest.fixture(scope="module", params=FORMS)
def transcoded(request, golden, tmp_path_factory):
    to = tmp_path_factory.mktemp(request.param) / "dataset"
    return request.param, to, transcode(golden / "dataset", to, (128, 128), request.param, workers=2)


def test_frames_are_those_that_the_reader_gives_at_this_size(transcoded, original):
    form, to, _ = transcoded
    found = images(to)
    if form == "raw":
        assert_same(found, original)
        return
    for name, frames in original.items():
        error = np.square(found[name].astype(float) - frames).mean()
        assert 10 * np.log10(255**2 / error) > {"video": 28, "jpeg": 33}[form]  # dB


def test_everything_else_is_carried_over(transcoded, golden):
    _, to, _ = transcoded
    source = golden / "dataset"
    assert open_catalog([to], MODALITIES).episodes == open_catalog([source], MODALITIES).episodes
    others = {file.relative_to(source) for file in source.rglob("data.mdb")}
    assert others == {file.relative_to(to) for file in to.rglob("data.mdb")}
    for file in others:
        if file.parts[0] != "image":
            assert (to / file).read_bytes() == (source / file).read_bytes()
    assert not list(to.rglob("*.draft"))


def test_the_report_is_right(transcoded, golden):
    form, to, report = transcoded
    assert (report.parts, report.frames, report.left_out) == (2, 960, {})
    assert report.bytes_before == sum(file.stat().st_size for file in (golden / "dataset" / "image").rglob("data.mdb"))
    assert report.bytes_after == sum(file.stat().st_size for file in (to / "image").rglob("data.mdb"))
    assert report.seconds_after < report.seconds_before / 2
    if form == "video":
        assert report.bytes_after < report.bytes_before / 2


@pytest.mark.parametrize("transcoded", ["video", "jpeg"], indirect=True)
def test_videos_and_jpegs_are_mp4_files_that_any_reader_reads(transcoded):
    """MineStudio's takes the first video stream of whatever file FFmpeg opens."""
    _, to, _ = transcoded
    store = open_catalog([to], ["image"]).stores["image"]
    with av.open(io.BytesIO(store.read_chunk(LONG, 64))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    out = np.empty((32, 128, 128, 3), np.uint8)
    ImageReader(store, 128, 128).read_into([(LONG, np.arange(64, 96), out)])
    assert (out == frames).all()


def test_again_nothing_is_done(transcoded, golden):
    form, to, report = transcoded
    times = {file: file.stat().st_mtime_ns for file in to.rglob("data.mdb")}
    again = transcode(golden / "dataset", to, (128, 128), form, workers=1)
    assert times == {file: file.stat().st_mtime_ns for file in to.rglob("data.mdb")}
    assert (again.frames, again.bytes_after) == (report.frames, report.bytes_after)


def test_the_padding_of_a_tail_stays_marked(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (70, 64, 64, 3), dtype=np.uint8)
    writer = DatasetWriter(tmp_path / "set", "part-1", image_size=(64, 64), keep_tail=True)
    with writer, writer.episode("e") as episode:
        episode.extend(image=frames, action={"jump": np.zeros(70, np.int64)})
    transcode(tmp_path / "set", tmp_path / "small", (32, 48), "raw", workers=1)
    assert [episode.frames for episode in open_catalog([tmp_path / "small"], ["image", "action"]).episodes] == [70]
    assert_same(images(tmp_path / "small", 32, 48), images(tmp_path / "set", 32, 48))


# Stopped and killed


def run(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "mscore", "data", "transcode", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_it_goes_on_after_a_kill(golden, tmp_path):
    source, to = golden / "dataset", tmp_path / "to"
    arguments = (source, "--to", to, "--size", "224", "--as", "raw", "--workers", 1)
    first = run(*arguments)
    draft = to / "image" / ".part-4.draft"
    # Committed 32 MB at a time: seven chunks of 224x224.
    while not ((draft / "data.mdb").exists() and (draft / "data.mdb").stat().st_size > 40e6):
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (to / "image" / "part-4").exists()

    # What is there is taken as it is: black frames put in by hand stay.
    black = FORMS["raw"].encode(np.zeros((32, 224, 224, 3), np.uint8))
    with lmdb.open(str(draft), map_size=2**40, lock=False) as environment, environment.begin(write=True) as transaction:
        done = {bytes(key) for key in transaction.cursor().iternext(values=False)}
        assert 5 < len(done) < 15
        assert chunk_key(0, 0) in done
        transaction.put(chunk_key(0, 0), black)

    second = run(*arguments)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    assert "960 frames in 2 parts" in output
    found, expected = images(to, 224, 224), images(source, 224, 224)
    (marked,) = (
        name
        for name, record in open_catalog([to], ["image"]).stores["image"].episodes.items()
        if record.index == 0 and record.part.file.parent.name == "part-4"
    )
    assert not found[marked][:32].any()
    found[marked][:32] = expected[marked][:32]
    assert_same(found, expected)
    assert not draft.exists()


def test_two_at_a_time_are_refused(golden, tmp_path):
    (tmp_path / "to").mkdir()
    with FileLock(tmp_path / "to" / LOCK_FILE), pytest.raises(MscoreError, match="another process"):
        transcode(golden / "dataset", tmp_path / "to", (32, 32), "raw", workers=1)


# Mistakes and damage


def test_a_damaged_chunk_stops_it_or_is_left_out(golden, dataset, edit, tmp_path):
    store = open_catalog([dataset], ["image"]).stores["image"]
    record = store.episodes[LONG]
    folder, key = record.part.file.parent, chunk_key(record.index, 320)
    del store, record
    edit(folder, {key: b"no video"})
    with pytest.raises(DatasetError, match="no image chunk") as caught:
        transcode(dataset, tmp_path / "to", (32, 32), "raw", workers=2)
    assert (caught.value.episode, caught.value.key) == (LONG, key.decode())

    report = transcode(dataset, tmp_path / "to", (32, 32), "raw", workers=2, on_error="skip")
    assert list(report.left_out) == [LONG]
    assert "no image chunk" in report.left_out[LONG]
    assert report.frames == 960 - 384
    catalog = open_catalog([tmp_path / "to"], MODALITIES)
    assert [(left_out.name, left_out.reason) for left_out in catalog.left_out] == [(LONG, "not in image")]
    expected = images(golden / "dataset", 32, 32)
    expected.pop(LONG)
    assert_same(images(tmp_path / "to", 32, 32), expected)
    again = transcode(dataset, tmp_path / "to", (32, 32), "raw", workers=1, on_error="skip")
    assert again.left_out == report.left_out


def test_an_episode_that_cannot_be_listed_is_left_out(dataset, edit, tmp_path):
    store = open_catalog([dataset], ["image"]).stores["image"]
    record = store.episodes[LONG]
    folder, key = record.part.file.parent, chunk_key(record.index, 32)
    del store, record
    edit(folder, {key: None})
    report = transcode(dataset, tmp_path / "to", (32, 32), "raw", workers=1, on_error="skip")
    assert list(report.left_out) == [LONG]
    assert open_catalog([tmp_path / "to"], ["image"]).problems == []


def test_other_contents_are_not_touched(golden, tmp_path):
    source = golden / "dataset"
    transcode(source, tmp_path / "to", (32, 32), "raw", workers=1)
    with pytest.raises(MscoreError, match="width 32 instead of 16, form 'raw' instead of 'video'"):
        transcode(source, tmp_path / "to", (16, 32), "video", workers=1)
    with pytest.raises(MscoreError, match="another transcoding: source"):
        transcode(shutil.copytree(source, tmp_path / "other"), tmp_path / "to", (32, 32), "raw", workers=1)
    with pytest.raises(MscoreError, match="holds action, event, image, which is no transcoding"):
        transcode(source, tmp_path / "other", (32, 32), "raw", workers=1)
    with pytest.raises(MscoreError, match="is the dataset itself"):
        transcode(source, source, (32, 32), "raw", workers=1)
    (tmp_path / "to" / "transcoding.json").write_text("{")
    with pytest.raises(MscoreError, match=r"transcoding\.json cannot be read"):
        transcode(source, tmp_path / "to", (32, 32), "raw", workers=1)


def test_a_size_that_a_form_cannot_store_is_refused(golden, tmp_path):
    with pytest.raises(MscoreError, match="33x32: video needs even sides"):
        transcode(golden / "dataset", tmp_path / "to", (33, 32), "video", workers=1)
    assert transcode(golden / "dataset", tmp_path / "to", (33, 31), "jpeg", workers=1).frames == 960
    assert images(tmp_path / "to", 33, 31)[LONG].shape == (384, 31, 33, 3)


def test_a_disk_that_is_too_small_is_told_before(golden, tmp_path, monkeypatch):
    monkeypatch.setattr(transcoding.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2e6, 1e6, 1e6))
    with pytest.raises(MscoreError, match=r"raw frames take 47\.2 MB, and 1\.0 MB are free"):
        transcode(golden / "dataset", tmp_path / "to", (128, 128), "raw", workers=1)
    transcode(golden / "dataset", tmp_path / "to2", (16, 16), "raw", workers=1)


def test_the_command_says_what_it_did(golden, tmp_path):
    arguments = [str(golden / "dataset"), "--to", str(tmp_path / "to"), "--size", "64x36", "--as", "jpeg"]
    output = CliRunner().invoke(command, arguments, catch_exceptions=False).output
    assert "transcoded: 960 frames in 2 parts, jpeg of 64x36" in output
    assert "disk      4.2 MB -> " in output
    assert "ms of CPU time a frame" in output
    note = json.loads((tmp_path / "to" / "transcoding.json").read_text())
    assert (note["width"], note["height"], note["form"], note["left_out"]) == (64, 36, "jpeg", {})


@pytest.mark.parametrize("size", ["0", "128x", "x128", "9999", "-5", "128x128x3"])
def test_a_size_that_is_none_is_refused(golden, tmp_path, size):
    arguments = [str(golden / "dataset"), "--to", str(tmp_path / "to"), f"--size={size}"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 2
    assert "expected a side such as 128" in result.output
    assert not (tmp_path / "to").exists()


def test_help_tells_what_each_form_costs():
    output = CliRunner().invoke(command, ["--help"]).output
    assert all(form in output for form in FORMS)
    assert "KB" in output
