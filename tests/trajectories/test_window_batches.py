"""What a batch of windows holds: frames, padding, masks, idle rows."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mscore import EpisodeBatchSampler, MscoreError, WindowDataset
from mscore.trajectories import IDLE, Windows

LENGTHS = [5, 2, 7]


class Counting(WindowDataset):
    """Frames whose content tells episode and place."""

    def __init__(self, window=4, names=("a", "b", "c")):
        super().__init__(names, LENGTHS, window)

    def read(self, episode, start, stop):
        frames = np.arange(start, stop)
        return {
            "image": np.stack([np.full_like(frames, episode), frames], -1).astype(np.uint8),
            "sensors": {"speed": frames.astype(np.float32)},
            "pair": (frames, [f"{episode}-{frame}" for frame in frames]),
            "mission": [f"{episode}:{frame}" for frame in frames],
            "agent_action": torch.from_numpy(frames) + 1,
        }


def test_windows_are_numbered_episode_by_episode():
    windows = Windows(LENGTHS, 4)
    assert len(windows) == 5
    assert [windows.locate(index) for index in range(5)] == [(0, 0, 4), (0, 4, 5), (1, 0, 2), (2, 0, 4), (2, 4, 7)]
    for outside in (-1, 5):
        with pytest.raises(IndexError):
            windows.locate(outside)


def test_a_batch_holds_frames_and_where_they_stand():
    batch = Counting().__getitems__([3, 1])
    assert batch["image"].shape == (2, 4, 2)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"][0].tolist() == [[2, 0], [2, 1], [2, 2], [2, 3]]
    assert batch["agent_action"].dtype == torch.int64
    assert batch["agent_action"][0].tolist() == [1, 2, 3, 4]
    assert batch["sensors"]["speed"][0].tolist() == [0, 1, 2, 3]
    assert batch["mission"][0] == ["2:0", "2:1", "2:2", "2:3"]
    assert batch["pair"][0].tolist() == [[0, 1, 2, 3], [4, 4, 4, 4]]
    assert batch["pair"][1] == [["2-0", "2-1", "2-2", "2-3"], ["0-4"] * 4]
    assert batch["episode"] == ["c", "a"]
    assert batch["timestamp"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batch["first"].tolist() == [[True, False, False, False], [False] * 4]
    assert batch["mask"].tolist() == [[True] * 4, [True, False, False, False]]


def test_padding_repeats_the_last_frame():
    batch = Counting().__getitems__([1])
    assert batch["image"][0].tolist() == [[0, 4]] * 4
    assert batch["agent_action"][0].tolist() == [5] * 4
    assert batch["mission"][0] == ["0:4"] * 4


def test_an_idle_row_has_no_valid_frame_and_the_name_of_no_episode():
    batch = Counting().__getitems__([2, IDLE])
    assert batch["episode"] == ["b", ""]
    assert not batch["mask"][1].any()
    assert batch["first"][1].tolist() == [True, False, False, False]
    assert batch["timestamp"][1].tolist() == [0, 1, 2, 3]
    assert batch["image"][1].tolist() == [[0, 0]] * 4
    assert batch["agent_action"][1].tolist() == [1] * 4


def test_one_window_is_a_batch_of_one():
    dataset = Counting()
    assert len(dataset) == 5
    assert dataset[4]["episode"] == ["c"]


def test_names_must_tell_episodes_apart():
    for names in (("a", "a", "b"), ("a", "", "b")):
        with pytest.raises(MscoreError, match="episode names"):
            Counting(names=names)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_serves_all_frames_once(workers):
    dataset = Counting(window=3)
    sampler = EpisodeBatchSampler(LENGTHS, 3, 2)
    loader = DataLoader(dataset, batch_sampler=sampler, num_workers=workers, collate_fn=lambda batch: batch)
    seen = sorted(
        (name, frame)
        for batch in loader
        for name, mask, times in zip(batch["episode"], batch["mask"], batch["timestamp"], strict=True)
        for frame in times[mask].tolist()
    )
    assert seen == [(name, frame) for name, n in zip("abc", LENGTHS, strict=True) for frame in range(n)]
