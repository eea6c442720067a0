"""`mscore data convert` on real recordings: what arrives, what is left out, and what survives a kill."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import lmdb
import numpy as np
import pytest
from click.testing import CliRunner
from mscore_plugin_minestudio.commands.convert import convert
from mscore_plugin_minestudio.conversion.recorded_actions import read_rows
from mscore_plugin_minestudio.storage.layout import DatasetError
from mscore_plugin_minestudio.storage.payloads import load_payload
from mscore_plugin_minestudio.storage.store import open_catalog

from mscore import MscoreError


def run(source, to, *options, workers=1):
    arguments = [str(source), "--to", str(to), "--workers", str(workers), *map(str, options)]
    return CliRunner().invoke(convert, arguments, catch_exceptions=False).output


def stored(dataset):
    """Episode to modality to its frames, decoded, and the same as bytes."""
    episodes = {}
    for modality in ("image", "action", "meta_info"):
        for part in sorted((dataset / modality).iterdir()):
            with lmdb.open(str(part), readonly=True, lock=False) as environment, environment.begin() as transaction:
                for info in load_payload(transaction.get(b"__chunk_infos__")):
                    chunks = [
                        transaction.get(b"(%d, %d)" % (info["episode_idx"], start))
                        for start in range(0, info["num_frames"], 32)
                    ]
                    frames = info.get("num_valid_frames", info["num_frames"])
                    episodes.setdefault(info["episode"], {})[modality] = (frames, chunks)
    return episodes


def pictures(chunks):
    frames = []
    for chunk in chunks:
        with av.open(io.BytesIO(chunk)) as container:
            frames += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return frames


def actions(chunks):
    loaded = [load_payload(chunk) for chunk in chunks]
    return {key: np.concatenate([chunk[key] for chunk in loaded]) for key in loaded[0]}


def infos(chunks):
    return [row for chunk in chunks for row in load_payload(chunk)]


def events(dataset):
    with (
        lmdb.open(str(dataset / "event"), readonly=True, lock=False) as environment,
        environment.begin() as transaction,
    ):
        content = {bytes(key): load_payload(bytes(value)) for key, value in transaction.cursor()}
    names = {code: name for name, code in content.pop(b"__codebook__").items()}
    counts = content.pop(b"__event_info__")
    assert content.pop(b"__num__events__") == len(counts)
    items = [
        (event, names[code], frame, count)
        for (event, code, frame, count) in (
            (event, *content.pop(repr((event, number)).encode()))
            for event, info in counts.items()
            for number in range(info["__num_items__"])
        )
    ]
    assert not content
    return items


@pytest.fixture(scope="module")
def source(tmp_path_factory, vpt):
    """Two recordings that follow each other, one an hour later, one that is too short, one by itself."""
    folder = tmp_path_factory.mktemp("source")
    vpt.record(folder, "P1-abc-20220101-095700", 90, seed=1)
    vpt.record(folder, "P1-abc-20220101-100200", 75, seed=2, video_frames=76)
    vpt.record(folder, "P1-abc-20220101-110000", 70, seed=3)
    vpt.record(folder / "more", "short", 20, seed=4)
    vpt.record(folder / "more", "solo", 64, seed=5)
    return folder


@pytest.fixture(scope="module")
def converted(source, tmp_path_factory):
    to = tmp_path_factory.mktemp("converted") / "dataset"
    return to, run(source, to)


def joined(source, *names, keep_noops=False):
    """Actions, meta information and frames' numbers of recordings, from their lines."""
    parts = []
    for name in names:
        rows = read_rows(next(source.rglob(f"{name}.jsonl")))
        keep = rows.acts | keep_noops
        parts.append((rows.kept(keep), np.flatnonzero(keep)))
    return (
        {key: np.concatenate([rows.action[key] for rows, _ in parts]) for key in parts[0][0].action},
        [info for rows, _ in parts for info in rows.meta_info],
        [int(number) for _, numbers in parts for number in numbers],
    )


LONG = ("P1-abc-20220101-095700", "P1-abc-20220101-100200")


def test_episodes_are_the_recordings_joined(source, converted, vpt):
    episodes = stored(converted[0])
    assert sorted(episodes) == ["P1-abc-20220101-095700", "P1-abc-20220101-110000", "solo-0"]
    for name, recordings in (
        ("P1-abc-20220101-095700", LONG),
        ("P1-abc-20220101-110000", ["P1-abc-20220101-110000"]),
        ("solo-0", ["solo"]),
    ):
        action, info, numbers = joined(source, *recordings)
        frames, chunks = episodes[name]["action"]
        assert frames == len(info) // 32 * 32
        assert {modality: episodes[name][modality][0] for modality in episodes[name]} == dict.fromkeys(
            ("image", "action", "meta_info"), frames
        )
        found = actions(chunks)
        assert list(found) == list(action)
        assert all(np.array_equal(found[key], action[key][:frames]) for key in action)
        assert infos(episodes[name]["meta_info"][1]) == info[:frames]
        images = pictures(episodes[name]["image"][1])
        assert {image.shape for image in images} == {(224, 224, 3)}
        assert [vpt.number_of(image) for image in images] == numbers[:frames]


def test_frames_in_which_nothing_is_done_can_stay(source, tmp_path, vpt):
    output = run(source, tmp_path / "to", "--keep-noops", "--keep-tail", "--size", "128x72")
    _, info, numbers = joined(source, *LONG, keep_noops=True)
    episode = stored(tmp_path / "to")["P1-abc-20220101-095700"]
    assert episode["image"][0] == 165 == len(numbers)
    images = pictures(episode["image"][1])
    assert images[0].shape == (72, 128, 3)
    assert [vpt.number_of(image) for image in images[:165]] == numbers
    assert infos(episode["meta_info"][1])[:165] == info
    assert "dropped" not in output
    # Our reader sees the frames, not what fills the chunk.
    catalog = open_catalog([tmp_path / "to"], ["image", "action", "meta_info"])
    assert {found.name: found.frames for found in catalog.episodes}["P1-abc-20220101-095700"] == 165
    # The short one is kept too: 20 frames of its own, 12 that fill the chunk.
    assert "converted: 4 episodes, 319 frames" in output


def test_the_summary_says_what_was_left_out(source, converted):
    to, output = converted
    kept = {
        name: len(joined(source, *names)[1])
        for name, names in (
            ("long", LONG),
            ("later", ["P1-abc-20220101-110000"]),
            ("solo", ["solo"]),
            ("short", ["short"]),
        )
    }
    stored_frames = sum(count // 32 * 32 for count in kept.values())
    lines = output.splitlines()
    assert lines[0] == f"converted: 3 episodes, {stored_frames} frames in {to}"
    assert f"  {90 + 75 + 70 + 64 + 20 - sum(kept.values())} frames in which nothing is done were dropped" in lines
    tails = sum(count % 32 for name, count in kept.items() if name != "short")
    assert f"  {tails} frames after the last whole chunk were dropped" in lines
    assert lines[-2:] == ["left out (1):", f"  short-0: {kept['short']} frames, less than a chunk of 32"]
    written = json.loads((to / "conversion.json").read_text())
    assert written["from"] == "vpt"
    assert written["image_size"] == [224, 224]
    assert written["written"]["omissions"][0]["what"] == "short-0"
    assert sorted(path.name for path in to.iterdir()) == ["action", "conversion.json", "event", "image", "meta_info"]


def test_events_are_indexed(converted):
    to, output = converted
    found = events(to)
    assert found == sorted(found, key=lambda item: (list(dict.fromkeys(i[0] for i in found)).index(item[0]), item[1:3]))
    expected = {
        (event, name, number, count)
        for name, episode in stored(to).items()
        for number, info in enumerate(infos(episode["meta_info"][1]))
        for event, count in info["events"].items()
    }
    assert set(found) == expected
    assert len(found) == len(expected)
    assert {event for event, *_ in found} == {
        "minecraft.custom:minecraft.jump", "minecraft.mine_block:minecraft.oak_log"
    }  # fmt: skip
    assert f"  {len(found)} occurrences of 2 events" in output


def test_recordings_without_statistics_have_no_index(tmp_path, vpt):
    vpt.record(tmp_path / "source", "solo", 64, change=lambda rows: [row.pop("stats") for row in rows])
    run(tmp_path / "source", tmp_path / "to")
    assert not (tmp_path / "to" / "event").exists()


def test_processes_do_not_change_the_result(source, converted, tmp_path):
    output = run(source, tmp_path / "to", workers=2)
    assert stored(tmp_path / "to") == stored(converted[0])
    assert events(tmp_path / "to") == events(converted[0])
    assert output.replace(str(tmp_path / "to"), "") == converted[1].replace(str(converted[0]), "")


def content(folder):
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.read_bytes())
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def test_a_finished_conversion_is_left_as_it_is(source, converted):
    to, output = converted
    before = content(to)
    again = run(source, to)
    assert again == output.replace("converted:", "was converted before:")
    assert content(to) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "128x128"], r"image_size \[224, 224\] instead of \[128, 128\]"),
        (["--keep-noops"], "keep_noops False instead of True"),
        (["--keep-tail"], "keep_tail False instead of True"),
    ],
)
def test_other_options_are_refused(source, converted, options, message):
    before = content(converted[0])
    with pytest.raises(MscoreError, match=f"holds another conversion: {message}. Repeat its options to go on with it"):
        run(source, converted[0], *options)
    assert content(converted[0]) == before


def test_a_source_that_changed_is_refused(source, converted, vpt, tmp_path):
    copy = tmp_path / "source"
    vpt.record(copy, "a", 40)
    vpt.record(copy, "b", 40)
    run(copy, tmp_path / "to", "--keep-noops")
    (copy / "c.mp4").touch()
    (copy / "c.jsonl").touch()
    with pytest.raises(MscoreError, match=r"the source has got 1 episodes \(c-0\) since the conversion began"):
        run(copy, tmp_path / "to", "--keep-noops")
    (copy / "c.mp4").rename(copy / "x.txt")
    (copy / "b.mp4").rename(copy / "y.txt")
    with pytest.raises(MscoreError, match=r"the source has lost 1 episodes \(b-0\) since the conversion began"):
        run(copy, tmp_path / "to", "--keep-noops")


def test_a_target_that_cannot_be_written(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MscoreError, match=r"file: it cannot be written \(.*\); choose another folder"):
        run(source, tmp_path / "file")


def test_a_full_disk_leaves_no_recording_out(source, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(MscoreError, match=r"image cannot be written \("):
            run(source, tmp_path / "to")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "left out (1):" in run(source, tmp_path / "to")


def test_a_folder_of_something_else_is_not_touched(source, tmp_path):
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(MscoreError, match=r"holds thesis\.tex, which is no conversion; choose an empty folder"):
        run(source, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.fixture
def damaged(tmp_path, vpt):
    """Six recordings of a session, of which three cannot be read, or not wholly; and others that cannot at all."""
    folder = tmp_path / "source"
    for number in range(6):
        vpt.record(folder, f"s-12{5 * number:02}00", 64, seed=number)
    (folder / "s-120500.mp4").write_bytes(b"garbage")
    video = folder / "s-121500.mp4"
    raw = bytearray(video.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 3000] = bytes(3000)
    video.write_bytes(raw)
    text = folder / "s-122500.jsonl"
    text.write_text(text.read_text()[:-30])
    vpt.record(folder, "fast", 40, fps=30)
    vpt.record(folder, "long", 40, video_frames=44)
    vpt.record(folder, "small", 40, size=(320, 180))
    vpt.record(folder, "silent", 40)
    (folder / "silent.jsonl").unlink()
    return folder


def test_what_cannot_be_read_is_left_out_and_said(damaged, tmp_path, vpt):
    output = run(damaged, tmp_path / "to", "--keep-noops", "--keep-tail")
    episodes = stored(tmp_path / "to")
    # A recording that is missing or cut short ends an episode: frames of one episode follow each other.
    assert sorted(episodes) == ["s-120000", "s-121000", "s-122000"]
    assert [episodes[name]["image"][0] for name in ("s-120000", "s-122000")] == [64, 64]
    frames = episodes["s-121000"]["image"][0]
    assert 64 < frames < 128
    assert [vpt.number_of(image) for image in pictures(episodes["s-121000"]["image"][1])[:frames]] == [
        *range(64), *range(frames - 64)
    ]  # fmt: skip
    left_out = output[output.index("left out") :].splitlines()
    assert left_out[0] == "left out (7):"
    reasons = dict(line.strip().removeprefix(f"{damaged}/").split(": ", 1) for line in left_out[1:])
    assert reasons.pop("s-120500.mp4").startswith("it cannot be read as a video (")
    assert reasons.pop("s-121500.mp4") == f"frame {frames - 64} is damaged; the {frames - 64} frames before it are kept"
    assert reasons.pop("s-122500.jsonl").startswith("line 64 is not JSON (")
    assert reasons == {
        "fast.mp4": "30 frames per second; expected 20",
        "long.mp4": "44 frames, but 40 lines of actions; expected as many, or one more",
        "small.mp4": "pictures of 320x180; expected 640x360",
        "silent.mp4": "no file silent.jsonl; expected one, with its actions",
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_read_can_stop_it(damaged, tmp_path, workers):
    with pytest.raises(MscoreError, match=r"silent\.mp4: no file silent\.jsonl"):
        run(damaged, tmp_path / "to", "--on-error", "raise", workers=workers)
    (damaged / "silent.mp4").unlink()
    with pytest.raises(DatasetError, match=r"source/\w+\S+: "):
        run(damaged, tmp_path / "to", "--on-error", "raise", workers=workers)
    assert not list((tmp_path / "to").glob(".*.draft"))
    # It can go on, leaving out what it stopped at.
    assert "left out (6):" in run(damaged, tmp_path / "to", workers=workers)


def test_nothing_at_all_can_be_converted(tmp_path, vpt):
    vpt.record(tmp_path / "source", "fast", 40, fps=30)
    with pytest.raises(MscoreError, match=r"nothing of the source could be converted:\n  .*fast\.mp4: 30 frames per"):
        run(tmp_path / "source", tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "224"], "'224'; expected a width and a height such as 224x224"),
        (["--size", "225x224"], "'225x224'; H.264 video needs even sides"),
        (["--from", "minari", "--keep-noops"], "--keep-noops is for recordings"),
    ],
)
def test_options_that_cannot_work(source, tmp_path, options, message):
    result = CliRunner().invoke(convert, [str(source), "--to", str(tmp_path / "to"), *options])
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "to").exists()


QUICK = ("--keep-noops", "--size", "64x36")


def start(source, to, *options):
    arguments = ["data", "convert", str(source), "--to", str(to), *QUICK, *options]
    return subprocess.Popen(
        [sys.executable, "-m", "mscore", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, process=None, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def children(pid):
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def many(tmp_path_factory, vpt):
    folder = tmp_path_factory.mktemp("many")
    for number in range(12):
        vpt.record(folder, f"episode-{2000 * number}", 128, seed=number)
    return folder


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_a_killed_conversion_goes_on(many, tmp_path, workers):
    to = tmp_path / "to"
    process = start(many, to, "--workers", workers)
    wait_for(lambda: len(list(to.glob(".conversion/part-*.json"))) >= 3, process)
    processes = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # No worker goes on writing by itself.
    wait_for(lambda: not any(map(alive, processes)))
    done = {path.name: path.stat().st_mtime_ns for path in to.glob(".conversion/part-*.json")}
    finished = {
        path: (path.stat().st_ino, path.stat().st_mtime_ns)
        for name in done
        for path in to.glob(f"*/{name.removesuffix('.json')}/data.mdb")
    }
    assert 3 * len(done) == len(finished)
    assert len(done) < 12
    output, errors = start(many, to, "--workers", "2").communicate()
    assert output.startswith("converted: 12 episodes"), errors
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in finished} == finished
    assert sorted(path.name for path in to.iterdir()) == ["action", "conversion.json", "event", "image", "meta_info"]
    whole = tmp_path / "whole"
    run(many, whole, *QUICK)
    assert stored(to) == stored(whole)
    assert events(to) == events(whole)


def test_two_processes_do_not_convert_into_one_folder(many, tmp_path):
    process = start(many, tmp_path / "to", "--workers", "1")
    try:
        wait_for(lambda: (tmp_path / "to" / ".conversion" / "plan.json").exists(), process)
        with pytest.raises(MscoreError, match="another process is converting into it"):
            run(many, tmp_path / "to", *QUICK)
    finally:
        process.kill()
        process.communicate()


def test_a_worker_that_dies_is_reported(many, tmp_path):
    process = start(many, tmp_path / "to", "--workers", "2")
    wait_for(lambda: list((tmp_path / "to").glob(".conversion/part-*.json")), process)
    workers = [pid for pid in children(process.pid) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode
    assert "a worker process died; if the machine ran out of memory, take fewer workers" in errors
    assert "Traceback" not in errors


def test_an_interrupted_conversion_leaves_no_process(many, tmp_path):
    process = start(many, tmp_path / "to", "--workers", "2")
    wait_for(lambda: list((tmp_path / "to").glob(".conversion/part-*.json")), process)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    wait_for(lambda: not any(map(alive, workers)), seconds=10)
