"""Windows are those that MineStudio's own reader gives, key by key and bit by bit."""

import gzip
import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from mscore_plugin_minestudio import MineDataModule
from mscore_plugin_minestudio.windows import columns

GOLDEN = Path(__file__).parent / "golden" / "minestudio"
WINDOWS = json.loads(gzip.decompress((GOLDEN / "out" / "windows.json.gz").read_bytes()))
EVENTS = json.loads((GOLDEN / "out" / "events.json").read_text())
META_INFO = json.loads((GOLDEN / "out" / "index.json").read_text())["meta_info"]


def dataset(**parameters):
    data = MineDataModule(dataset_dirs=[str(GOLDEN / "dataset")], split_ratio=1.0, **parameters)
    data.setup()
    return data.train_dataset


def row_of(batch):
    """The only row of a batch, as arrays."""
    if isinstance(batch, dict):
        return {key: row_of(value) for key, value in batch.items()}
    return batch[0] if isinstance(batch, list) else batch[0].numpy()


def sha16(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def assert_equal(found, expected, name):
    """Compare an array with what the golden files say about one: its hash, or all of it."""
    if isinstance(expected, str):
        assert sha16(found) == expected, name
        return
    assert list(found.shape) == expected["shape"], name
    assert sha16(found) == expected["sha16"], name
    # Masks are bool here, and MineStudio's uint8: the same bytes.
    assert str(found.dtype) == ("bool" if name.endswith("mask") else expected["dtype"]), name


def assert_row(row, golden, passed_over=()):
    """Compare a row with a golden item, but for some keys that MineStudio gets wrong."""
    assert row.keys() - {"first"} == golden.keys()
    for key, expected in golden.items():
        if key in passed_over:
            continue
        if isinstance(expected, str):
            assert row[key] == expected
        elif key == "meta_info":
            assert_meta_info(row, expected)
        elif key == "segmentation":
            assert_segmentation(row[key], expected)
        elif "sha16" in expected:
            assert_equal(row[key], expected, key)
        else:
            assert row[key].keys() == expected.keys()
            for part, value in expected.items():
                assert_equal(row[key][part], value, f"{key}.{part}")


def assert_meta_info(row, expected):
    assert list(row["meta_info"]) == list(expected)
    frames = row["timestamp"][row["mask"]]
    for key, values in row["meta_info"].items():
        assert (len(values), values.count(None)) == (expected[key]["list"], expected[key]["none"])
        stored = META_INFO[row["episode"]][key]
        assert values[: len(frames)] == [stored[frame] for frame in frames]


def assert_segmentation(found, expected):
    assert found.keys() == expected.keys()
    assert len(found["event"]) == expected["event"]["list"]
    for key in expected.keys() - {"event"}:
        # Where no frame of its chunks has a point, MineStudio's points are integers.
        found_again = [found[key], found[key].astype(np.int64)] if key == "point" else [found[key]]
        assert expected[key] in map(sha16, found_again), key


RAW = {
    "win16_skip1": {"win_len": 16, "enable_meta_info": True, "enable_segment": True},
    "win32_skip1": {"win_len": 32, "enable_meta_info": True, "enable_segment": True},
    "win20_skip1": {"win_len": 20, "enable_meta_info": True},
    "win20_prev": {"win_len": 20, "enable_prev_action": True},
}
GENERATOR = random.Random
ALL_TRUE = ("action_mask", "mask")
"""MineStudio says with previous actions that every frame is there."""


@pytest.mark.parametrize("name", RAW)
def test_raw_windows(name, monkeypatch):
    windows = dataset(**RAW[name])
    if name != "win20_prev":
        assert len(windows) == len(WINDOWS[name])
    for item in WINDOWS[name]:
        # The golden items were read with a generator of this seed.
        monkeypatch.setattr(columns.random, "Random", lambda _, seed=1000 + item["i"]: GENERATOR(seed))
        row = row_of(windows[item["i"]])
        assert (row["episode"], row["timestamp"][0]) == (item["ep"], item["start"])
        assert_row(row, item["item"], ALL_TRUE if name == "win20_prev" else ())


@pytest.mark.parametrize("number", range(len(EVENTS)))
def test_windows_of_events(number):
    golden = EVENTS[number]
    windows = dataset(mode="event", enable_meta_info=True, **golden["cfg"])
    kept = {}
    for event in windows.events:
        kept.setdefault(event.name, []).append(event.number)
    assert list(kept) == golden["event_list"]
    assert kept == golden["remaining"]
    for golden_row in golden["rows"]:
        place = [event.name for event in windows.events].index(golden_row["event"]) + golden_row["rel"]
        event, row = windows.events[place], row_of(windows[place])
        assert (event.episode, event.time, event.text) == (golden_row["ep"], golden_row["t"], golden_row["text"])
        assert row["timestamp"][0] == golden_row["start"]
        if golden_row["item"] is not None:
            assert_row(row, golden_row["item"])


def test_the_event_is_in_the_window_if_the_bias_says_so():
    regex = "minecraft.mine_block:.*"
    for bias in (0, 1, 5):
        windows = dataset(mode="event", event_regex=regex, win_len=32, bias=bias)
        for place, event in enumerate(windows.events):
            frames = windows[place]["timestamp"][0].tolist()
            assert frames == list(range(event.time - 32 + bias, event.time + bias))


def test_windows_of_events_that_skip_frames_end_before_the_event():
    windows = dataset(mode="event", event_regex="minecraft.mine_block:.*", win_len=16, skip_frame=3)
    for place, event in enumerate(windows.events):
        frames = windows[place]["timestamp"][0].tolist()
        assert frames == list(range(event.time - 48, event.time, 3))


def episodes(**parameters):
    """All frames of every episode, read at once."""
    windows = dataset(win_len=384, **parameters)
    return {row["episode"]: row for row in (row_of(windows[index]) for index in range(len(windows)))}


@pytest.mark.parametrize("stride", [2, 3, 40])
@pytest.mark.parametrize("prev_action", [False, True])
def test_skipping_frames_takes_every_nth_and_masks_what_there_is_not(stride, prev_action):
    whole = episodes(enable_meta_info=True)
    windows = dataset(win_len=16, skip_frame=stride, enable_prev_action=prev_action, enable_meta_info=True)
    seen = {}
    for index in range(len(windows)):
        row = row_of(windows[index])
        expected = whole[row["episode"]]
        assert row["timestamp"].tolist() == list(range(row["timestamp"][0], row["timestamp"][0] + 16 * stride, stride))
        assert row["image"].shape == (16, 128, 128, 3)
        frames = row["timestamp"][row["mask"]]
        assert row["mask"].tolist() == [frame < sum(expected["mask"]) for frame in row["timestamp"]]
        seen.setdefault(row["episode"], []).extend(frames.tolist())
        np.testing.assert_array_equal(row["image"][: len(frames)], expected["image"][frames])
        assert not row["image"][len(frames) :].any()
        for key in ("buttons", "camera"):
            ids = expected["agent_action"][key]
            np.testing.assert_array_equal(row["agent_action"][key][: len(frames)], ids[frames])
            null = {"buttons": 0, "camera": 60}[key]
            assert (row["agent_action"][key][len(frames) :] == null).all()
            if prev_action:
                before = [null if frame < stride else ids[frame - stride, 0] for frame in frames]
                assert row["agent_prev_action"][key][: len(frames), 0].tolist() == before
        assert row["meta_info"]["yaw"][: len(frames)] == [expected["meta_info"]["yaw"][frame] for frame in frames]
    assert seen == {episode: list(range(0, sum(row["mask"]), stride)) for episode, row in whole.items()}


def test_a_row_of_a_batch_is_the_window_alone():
    windows = dataset(win_len=20, enable_meta_info=True, enable_segment=True, enable_prev_action=True)
    indices = [3, -1, 0, 49, 17]
    batch = windows.__getitems__(indices)
    assert batch["episode"][1] == batch["text"][1] == batch["progress"][1] == ""
    for place, index in enumerate(indices):
        alone = windows.__getitems__([index])
        assert_same(pick(batch, place), pick(alone, 0))


def pick(value, place):
    if isinstance(value, dict):
        return {key: pick(part, place) for key, part in value.items()}
    return value[place]


def assert_same(found, expected):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | str):
        assert found == expected
    else:
        assert found.dtype == expected.dtype
        assert found.equal(expected)


def test_an_idle_row_is_all_padding():
    windows = dataset(win_len=20, enable_meta_info=True, enable_segment=True, enable_prev_action=True)
    idle = pick(windows.__getitems__([0, -1]), 1)
    assert not idle["mask"].any()
    assert idle["first"].tolist() == [True] + [False] * 19
    assert idle["timestamp"].tolist() == list(range(20))
    assert not idle["image"].any()
    assert not idle["agent_action"]["buttons"].any()
    assert (idle["agent_prev_action"]["camera"] == 60).all()
    assert idle["meta_info"]["yaw"] == [None] * 20
    assert not idle["segmentation"]["obj_id"].any()
    assert (idle["segmentation"]["point"] == -1).all()
