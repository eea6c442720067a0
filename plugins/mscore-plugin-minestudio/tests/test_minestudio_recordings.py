"""Recordings of VPT: which belong together, what was done in them, and what cannot be used."""

import json

import numpy as np
import pytest
from mscore_plugin_minestudio.conversion.recorded_actions import read_rows
from mscore_plugin_minestudio.conversion.recorded_video import check_video, read_frames
from mscore_plugin_minestudio.conversion.recordings import find_episodes
from mscore_plugin_minestudio.storage.layout import ACTION_KEYS, DatasetError

from mscore import MscoreError


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.mp4").touch()
        (folder / f"{name}.jsonl").touch()


def joined(folder):
    return {episode.name: [recording.part for recording in episode.recordings] for episode in find_episodes(folder)[0]}


@pytest.mark.parametrize(
    ("names", "episodes"),
    [
        (["solo"], {"solo-0": ["0"]}),
        (["P1-abc-20220101-101500", "P1-abc-20220101-102000"], {"P1-abc-20220101-101500": ["101500", "102000"]}),
        (["a-120000", "a-123000"], {"a-120000": ["120000"], "a-123000": ["123000"]}),
        # Nine minutes and 59 seconds; ten minutes.
        (["a-120000", "a-120959"], {"a-120000": ["120000", "120959"]}),
        (["a-120000", "a-121000"], {"a-120000": ["120000"], "a-121000": ["121000"]}),
        # Five minutes over the hour, which read as whole numbers are 4500 apart.
        (["a-095500", "a-100000"], {"a-095500": ["095500", "100000"]}),
        # Nineteen minutes, though the numbers are 1 apart from a thousand.
        (["a-093000", "a-094000"], {"a-093000": ["093000"], "a-094000": ["094000"]}),
        # Numbers, in their order as numbers.
        (["a-2", "a-10", "a-1", "a-1010"], {"a-1": ["1", "2", "10"], "a-1010": ["1010"]}),
        (["x-1", "x-y-1"], {"x-1": ["1"], "x-y-1": ["1"]}),
        (["a-991500"], {"a-991500": ["991500"]}),
    ],
)
def test_which_recordings_make_up_an_episode(tmp_path, names, episodes):
    touch(tmp_path, *names)
    assert joined(tmp_path) == episodes


def test_actions_may_lie_elsewhere(tmp_path):
    touch(tmp_path / "all", "a-1", "a-2")
    (tmp_path / "jsonl").mkdir()
    (tmp_path / "all" / "a-1.jsonl").rename(tmp_path / "jsonl" / "a-1.jsonl")
    episodes, omissions = find_episodes(tmp_path)
    assert [recording.actions.parent.name for recording in episodes[0].recordings] == ["jsonl", "all"]
    assert not omissions


def test_videos_that_are_no_recordings(tmp_path):
    touch(tmp_path / "one", "a-1", "b-1", "solo")
    touch(tmp_path / "two", "a-1", "solo-0")
    for folder in ("one", "two"):
        (tmp_path / folder / "c-1.jsonl").touch()
    (tmp_path / "c-1.mp4").touch()
    (tmp_path / "one" / "b-1.jsonl").unlink()
    episodes, omissions = find_episodes(tmp_path)
    assert [episode.name for episode in episodes] == ["a-1", "solo-0"]
    assert [(omission.what.removeprefix(f"{tmp_path}/"), omission.reason) for omission in omissions] == [
        ("c-1.mp4", "2 files c-1.jsonl; expected one, with its actions"),
        ("one/b-1.mp4", "no file b-1.jsonl; expected one, with its actions"),
        ("two/a-1.mp4", "another video has this name; expected different names"),
        ("two/solo-0.mp4", "another video has this name; expected different names"),
    ]


def test_a_folder_without_recordings(tmp_path):
    with pytest.raises(MscoreError, match="no such folder; expected the folder of the recordings"):
        find_episodes(tmp_path / "nothing")
    with pytest.raises(MscoreError, match=r"no video in it \(\*\.mp4\)"):
        find_episodes(tmp_path)


@pytest.fixture
def read(tmp_path, vpt):
    def read(*changes, frames=None):
        """Rows of a recording in which nothing is done but what ``changes`` say, a dict a line."""
        rows = vpt.lines(frames or len(changes))
        for row, change in zip(rows, changes, strict=False):
            row["mouse"].update(dx=0.0, dy=0.0, buttons=[], newButtons=[])
            row.update(keyboard={"keys": []}, hotbar=0, isGuiOpen=False, isGuiInventory=False)
            for key, value in change.items():
                if isinstance(value, dict) and key in row and key != "stats":
                    row[key].update(value)
                else:
                    row[key] = value
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_rows(path)

    return read


def pressed(rows):
    return [{key for key in ACTION_KEYS if key != "camera" and rows.action[key][t]} for t in range(len(rows))]


def test_keys_and_buttons(read):
    names = ["s", "q", "w", *map(str, range(1, 10)), "e", "space", "a", "d", "left.shift", "left.control"]
    rows = read(*({"keyboard": {"keys": [f"key.keyboard.{name}"]}} for name in [*names, "escape", "f", "f3"]))
    flags = [key for key in ACTION_KEYS if key not in ("camera", "attack", "use")]
    assert pressed(rows) == [*({flag} for flag in flags), set(), set(), set()]
    # The middle button picks a block, which is no action of MineStudio's.
    rows = read({}, *({"mouse": {"buttons": [button]}} for button in (0, 1, 2)))
    assert pressed(rows) == [set(), {"attack"}, {"use"}, set()]


def test_arrays_are_as_minestudio_stores_them(read):
    rows = read({}, {}, {})
    assert list(rows.action) == list(ACTION_KEYS)
    assert {key: (array.dtype.str, array.shape) for key, array in rows.action.items()} == {
        key: ("<f8", (3, 2)) if key == "camera" else ("<i8", (3,)) for key in ACTION_KEYS
    }


def test_the_mouse_moves_the_camera(read):
    rows = read({"mouse": {"dx": 100.0, "dy": -40.0}}, {"mouse": {"dx": 2400.0}})
    # Pitch, then yaw; a whole turn is 2400 pixels.
    np.testing.assert_allclose(rows.action["camera"], [[-6, 15], [0, 360]])


def test_a_change_of_slot_is_a_press(read):
    rows = read(*({"hotbar": slot} for slot in (3, 3, 8, 0, 0)))
    assert pressed(rows) == [{"hotbar.4"}, set(), {"hotbar.9"}, {"hotbar.1"}, set()]


def test_a_button_that_was_stuck_is_not_pressed(read):
    down, again = {"mouse": {"buttons": [0, 1]}}, {"mouse": {"buttons": [0], "newButtons": [0]}}
    stuck = {"mouse": {"buttons": [0], "newButtons": [0]}}
    assert pressed(read(stuck, down, again, down)) == [set(), {"use"}, {"attack"}, {"attack", "use"}]
    # Pressed with another button at once, or later: it is not stuck.
    both = {"mouse": {"buttons": [0, 1], "newButtons": [0, 1]}}
    assert pressed(read(both, down)) == [{"attack", "use"}, {"attack", "use"}]
    assert pressed(read({}, again, down)) == [set(), {"attack"}, {"attack", "use"}]


def test_rows_in_which_nothing_is_done(read):
    rows = read(
        {}, {"mouse": {"dx": 1.0}}, {"keyboard": {"keys": ["key.keyboard.escape"]}}, {"mouse": {"buttons": [1]}}
    )
    assert rows.acts.tolist() == [False, True, False, True]


def test_meta_information(read):
    opened = {"isGuiOpen": True, "isGuiInventory": True, "mouse": {"x": 901.0, "y": 333.0}}
    rows = read({"yaw": 30.0, "pitch": 5.0}, {"yaw": 33.5, "pitch": 4.0, **opened})
    assert list(rows.meta_info[0]) == [
        "yaw", "pitch", "xpos", "ypos", "zpos", "hotbar", "inventory", "isGuiOpen", "isGuiInventory",
        "delta_yaw", "delta_pitch", "events", "cursor_x", "cursor_y",
    ]  # fmt: skip
    first, second = rows.meta_info
    assert (first["yaw"], first["delta_yaw"], first["delta_pitch"]) == (30.0, 0.0, 0.0)
    assert (second["delta_yaw"], second["delta_pitch"]) == (3.5, -1.0)
    assert (first["cursor_x"], first["cursor_y"]) == (0, 0)
    assert (second["cursor_x"], second["cursor_y"]) == (450, 166)
    assert (second["isGuiOpen"], second["isGuiInventory"]) == (True, True)


def test_events_are_what_rises(read):
    dug, walked = "minecraft.mine_block:minecraft.dirt", "minecraft.custom:minecraft.walk_one_cm"
    stats = [{dug: 4, walked: 1}, {dug: 4, walked: 90}, {dug: 6, walked: 90, "minecraft.pickup:minecraft.dirt": 1}, {}]
    rows = read(*({"stats": at} for at in stats))
    assert [info["events"] for info in rows.meta_info] == [
        {}, {}, {dug: 2, "minecraft.pickup:minecraft.dirt": 1}, {},
    ]  # fmt: skip


def test_recordings_without_statistics_have_no_events(tmp_path, vpt):
    rows = vpt.lines(5)
    for row in rows:
        del row["stats"]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [info["events"] for info in read_rows(tmp_path / "a.jsonl").meta_info] == [{}] * 5


def test_what_happens_in_dropped_rows_counts_for_the_next(read):
    dug = "minecraft.mine_block:minecraft.dirt"
    rows = read(*({"stats": {dug: count}, "yaw": float(count)} for count in (0, 1, 3, 3, 4)))
    kept = rows.kept(np.array([True, False, True, False, True]))
    assert [info["events"] for info in kept.meta_info] == [{}, {dug: 3}, {dug: 1}]
    assert [info["delta_yaw"] for info in kept.meta_info] == [0.0, 3.0, 1.0]
    assert all(len(array) == 3 for array in kept.action.values())
    assert [info["events"] for info in rows.meta_info] == [{}, {dug: 1}, {dug: 2}, {}, {dug: 1}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("mouse"), "line 2 has no 'mouse.buttons'|line 2 has no 'mouse.newButtons'"),
        (lambda row: row.update(keyboard=None), "line 2 has no 'keyboard.keys'"),
        (lambda row: row["mouse"].update(dx="far"), 'line 2: mouse.dx is "far"; expected a number'),
        (lambda row: row["mouse"].update(dy=float("nan")), "line 2: mouse.dy is NaN; expected a number"),
        (lambda row: row.update(hotbar=9), "line 2: hotbar is 9; expected a number from 0 to 8"),
        (lambda row: row.update(isGuiOpen=1), "line 2: isGuiOpen is 1; expected true or false"),
        (lambda row: row.update(inventory=[{"type": "dirt"}]), "expected a list of {type, quantity}"),
        (lambda row: row.update(stats=[1]), r"line 2: stats is \[1\]; expected numbers by name"),
        (lambda row: row.pop("yaw"), "line 2 has no 'yaw'"),
    ],
)
def test_lines_that_are_not_a_recorders(tmp_path, vpt, change, message):
    rows = vpt.lines(3)
    change(rows[1])
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DatasetError, match=message) as caught:
        read_rows(path)
    assert caught.value.file == str(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty; expected a line for each frame"),
        (b"{}\n", "line 1 has no 'keyboard.keys'"),
        (b"[1]\n", r"line 1 is '\[1\]'; expected an object"),
        (b'{"mouse": \n', "line 1 is not JSON"),
        (b"\xff\xfe{}\n", "it is not text in UTF-8"),
        (b"[" * 100_000, "line 1 is not JSON"),
    ],
)
def test_files_that_are_not_a_recorders(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_rows(tmp_path / "a.jsonl")


def test_a_line_that_was_cut_off(tmp_path, vpt):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, vpt.lines(5)))[:-20])
    with pytest.raises(DatasetError, match="line 5 is not JSON"):
        read_rows(path)


@pytest.fixture(scope="module")
def video(tmp_path_factory, vpt):
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    vpt.write_video(path, vpt.pictures(50))
    return path


def closed(frames):
    return [{"isGuiOpen": False, "cursor_x": 0, "cursor_y": 0}] * frames


def test_frames_of_a_video(video, vpt):
    keep = np.arange(49) % 3 != 1
    check_video(video, 49)
    check_video(video, 50)
    frames = list(read_frames(video, closed(49), keep))
    assert [vpt.number_of(frame) for frame in frames] == np.flatnonzero(keep).tolist()
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {((360, 640, 3), "uint8")}


@pytest.mark.parametrize("rows", [48, 51])
def test_lines_must_match_the_video(video, rows):
    with pytest.raises(DatasetError, match=f"50 frames, but {rows} lines of actions; expected as many, or one more"):
        check_video(video, rows)


def test_the_pointer_is_drawn_where_a_window_is_open(video):
    plain = next(read_frames(video, closed(1), np.array([True])))
    seen = {}
    for x, y in ((300, 200), (635, 355), (-4, -4), (700, 10), (0, 359)):
        info = {"isGuiOpen": True, "cursor_x": x, "cursor_y": y}
        frame = next(read_frames(video, [info], np.array([True])))
        rows, columns = np.nonzero((frame != plain).any(axis=2))
        seen[x, y] = (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else None
    left, top, right, bottom = seen[300, 200]
    assert (left, top) == (300, 200)
    assert 8 < right - left < 16
    assert 12 < bottom - top < 20
    assert seen[635, 355][2:] <= (639, 359)
    assert seen[-4, -4][0] == 0
    assert seen[700, 10] is None
    assert seen[0, 359] is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fps": 30}, "30 frames per second; expected 20"),
        ({"fps": 10}, "10 frames per second; expected 20"),
        ({"size": (320, 180)}, "pictures of 320x180; expected 640x360"),
    ],
)
def test_videos_of_another_kind(tmp_path, vpt, arguments, message):
    path = tmp_path / "a.mp4"
    size = arguments.pop("size", (640, 360))
    vpt.write_video(path, vpt.pictures(10, size=size), **arguments)
    with pytest.raises(DatasetError, match=message):
        check_video(path, 10)


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 99, b"\0\0\0\x20ftypisom"])
def test_files_that_are_no_video(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DatasetError, match="it cannot be read as a video"):
        check_video(tmp_path / "a.mp4", 10)


def test_a_video_that_was_cut_off(video, tmp_path):
    raw = video.read_bytes()
    (tmp_path / "a.mp4").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DatasetError, match="it cannot be read as a video"):
        check_video(tmp_path / "a.mp4", 50)


def test_damage_in_the_middle_ends_the_frames(video, tmp_path, vpt):
    raw = bytearray(video.read_bytes())
    middle = len(raw) // 2
    raw[middle : middle + 2000] = bytes(2000)
    path = tmp_path / "a.mp4"
    path.write_bytes(raw)
    check_video(path, 50)
    frames = []

    def collect():
        for frame in read_frames(path, closed(50), np.ones(50, bool)):
            frames.append(vpt.number_of(frame))

    with pytest.raises(DatasetError, match=r"frame \d+ (is damaged|cannot be decoded)"):
        collect()
    assert frames == list(range(len(frames)))
    assert 5 < len(frames) < 45
