"""Masks and what they are masks of: those that MineStudio's reader gives, and refusals of what is no mask."""

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from mscore_plugin_minestudio.modalities.segmentation import SegmentationReader, decode_mask
from mscore_plugin_minestudio.storage.store import open_catalog

GOLDEN = Path(__file__).parent / "golden" / "minestudio"


@pytest.fixture(scope="module")
def catalog():
    return open_catalog([GOLDEN / "dataset"], ["segmentation"])


def whole(catalog, episode, frames, **arguments):
    """All frames of an episode at 128 x 128, chosen as the golden files were."""
    masks = np.zeros((frames, 128, 128), np.uint8)
    reader = SegmentationReader(catalog.stores["segmentation"], 128, 128, **arguments)
    return reader.read_into(episode, np.arange(frames), masks, random.Random(0)), masks


def test_whole_episodes_are_as_minestudio_reads_them(catalog):
    golden = np.load(GOLDEN / "out" / "segmentation.npz")
    index = json.loads((GOLDEN / "out" / "index.json").read_text())
    for episode, frames in index["episodes"]:
        segments, masks = whole(catalog, episode, frames)
        for name in ("obj_id", "point", "frame_id", "frame_range"):
            found, expected = getattr(segments, name), golden[f"{episode}/{name}"]
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
        assert segments.event == index["segmentation_event"][episode]
        hashes = [hashlib.sha256(mask.tobytes()).hexdigest()[:16] for mask in masks]
        assert hashes == index["segmentation_mask_sha16"][episode]
    assert masks.max() == 1


def test_only_the_wanted_event_is_followed(catalog):
    episode = "Player3-dddddd-20220103-083000"
    free, _ = whole(catalog, episode, 384)
    kept, masks = whole(catalog, episode, 384, event_constrain="mine_block:oak_log")
    assert len(set(free.event)) > 2
    assert set(kept.event) == {"", "minecraft.mine_block:minecraft.oak_log"}
    nothing = np.array([event == "" for event in kept.event])
    assert (kept.obj_id[nothing] == -1).all()
    assert not masks[nothing].any()
    assert masks[~nothing].any((1, 2)).all()


@pytest.mark.parametrize("runs", [[(1, 1)], [(640, 2)], [(360 * 640, 1)], [(1, 360 * 640)], [(5, 0), (9, 3)], []])
def test_masks_are_runs_of_ones(runs):
    expected = np.zeros(360 * 640, np.uint8)
    for start, length in runs:
        expected[start - 1 : start - 1 + length] = 1
    text = " ".join(f"{start} {length}" for start, length in runs)
    np.testing.assert_array_equal(decode_mask(text), expected.reshape(360, 640))


@pytest.mark.parametrize("text", ["1", "0 3", "-5 3", "3 -1", "230400 2", "one two", "1.5 2", "1 99999999999999999999"])
def test_what_is_no_mask_is_refused(text):
    with pytest.raises((ValueError, OverflowError)):
        decode_mask(text)
