"""The data module: its parameters, its splits, its order, and what becomes of data that cannot be read."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from mscore_plugin_minestudio import MineDataModule
from mscore_plugin_minestudio.storage.payloads import dump_payload, load_payload
from omegaconf import OmegaConf

from mscore import EpisodeBatchSampler, MscoreError, is_minecraft

GOLDEN = Path(__file__).parent / "golden" / "minestudio"
DATASET = str(GOLDEN / "dataset")
INDEX = json.loads((GOLDEN / "out" / "index.json").read_text())
LENGTHS = dict(INDEX["episodes"])
LONGEST = "Player3-dddddd-20220103-083000"


def data(**parameters):
    small = {"dataset_dirs": [DATASET], "frame_width": 16, "frame_height": 16, "win_len": 32}
    return MineDataModule(**{**small, **parameters})


def ready(**parameters):
    module = data(**parameters)
    module.prepare_data()
    module.setup("fit")
    return module


# --- parameters -------------------------------------------------------------------------------------


def test_the_parameters_may_stand_in_data_params_or_by_themselves():
    flat = data(win_len=20, split_ratio=0.5, seed=3, enable_segment=True)
    inside = MineDataModule(
        data_params={
            "dataset_dirs": [DATASET], "frame_width": 16, "frame_height": 16,
            "win_len": 20, "split_ratio": 0.5, "seed": 3, "enable_segment": True,
        }
    )  # fmt: skip
    assert flat.params == inside.params


def test_omegaconf_lists_and_paths_name_folders_too():
    config = OmegaConf.create({"dirs": [DATASET], "data": {"win_len": 20}})
    assert MineDataModule(OmegaConf.merge(config.data, {"dataset_dirs": config.dirs})).params.win_len == 20
    assert MineDataModule({"dataset_dirs": config.dirs}).params.dataset_dirs == (DATASET,)
    assert MineDataModule({"dataset_dirs": [GOLDEN / "dataset"]}).params.dataset_dirs == (DATASET,)


def test_the_former_name_of_meta_information_is_known():
    assert MineDataModule({"dataset_dirs": [DATASET], "enable_contractor_info": True}).params.enable_meta_info


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"data_params": {"win_length": 3}}, "unknown parameter.*Did you mean 'win_len'"),
        ({"win_length": 3}, "unknown parameter.*Did you mean 'win_len'"),
        ({"data_params": {"win_len": 16}, "win_len": 8}, "win_len: given in data_params and beside it"),
        ({"data_params": {"split_ratio": 0.5}, "split_ratio": 0.6}, "split_ratio: given in data_params and beside it"),
        ({"data_params": 3}, "expected a dict"),
        ({"win_len": 0}, "win_len: .*greater than or equal to 1"),
        ({"win_len": "16"}, "win_len: .*valid integer"),
        ({"mode": "evnt"}, "mode: .*'raw' or 'event'"),
        ({"split_ratio": 95}, "split_ratio: .*less than or equal to 1"),
        ({"dataset_dirs": []}, "dataset_dirs: it is empty"),
        ({"dataset_dirs": DATASET}, "dataset_dirs: .*valid tuple"),
        ({"bias": 3}, "bias: of events"),
        ({"event_constrain": "kill_entity:sheep"}, "needs enable_segment"),
        ({"enable_prev_action": True, "enable_action": False}, "needs enable_action"),
        ({"enable_video": False, "enable_action": False}, "enable one"),
        ({"win_len": 1, "skip_frame": 2, "episode_continuous_batch": True}, "win_len of at least 2"),
    ],
)
def test_mistakes_are_said_at_once(parameters, message):
    with pytest.raises(MscoreError, match=message):
        data(**parameters)


def test_all_mistakes_are_said():
    with pytest.raises(MscoreError) as caught:
        data(win_len=0, skip_frame=0, modus="raw")
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dataset_dirs": ["6xx"]}, "CraftJarvis/minestudio-data-6xx"),
        ({"dataset_dirs": ["no/such/folder"]}, "no such folder"),
        ({"mode": "event", "event_regex": "("}, "no regular expression"),
        ({"mode": "event", "event_regex": "mine_block"}, "matches none"),
        ({"split_ratio": 0.1}, "leaves none to train on"),
    ],
)
def test_mistakes_that_the_data_shows(parameters, message):
    with pytest.raises(MscoreError, match=message):
        ready(**parameters)


def test_the_spaces_are_minecrafts():
    module = data(frame_width=24, frame_height=16)
    assert module.observation_space == spaces.Dict({"image": spaces.Box(0, 255, (16, 24, 3), np.uint8)})
    assert is_minecraft(module.action_space)
    assert data(enable_video=False).observation_space is None
    assert data(enable_action=False).action_space is None


# --- splits and order -------------------------------------------------------------------------------


def episodes_of(windows):
    return [] if windows is None else [episode.name for episode in windows.episodes]


@pytest.mark.parametrize("golden", INDEX["splits"], ids=lambda one: "-".join(str(one[key]) for key in list(one)[:4]))
def test_the_splits_are_minestudios(golden):
    module = ready(split_ratio=golden["ratio"], shuffle_episodes=golden["shuffle"], seed=golden["seed"], win_len=16)
    windows = {"train": module.train_dataset, "val": module.val_dataset}[golden["split"]]
    assert len(windows) == golden["len"]
    assert episodes_of(windows) == [episode for episode, _, _ in golden["episodes_with_items"]]
    assert windows.windows.offsets.tolist() == [first for _, _, first in golden["episodes_with_items"]]


@pytest.mark.parametrize("shuffle", [False, True])
def test_events_of_held_out_episodes_are_never_trained_on(shuffle):
    parameters = {"split_ratio": 0.7, "shuffle_episodes": shuffle}
    raw = ready(**parameters)
    events = ready(mode="event", **parameters)
    for windows, split in ((events.train_dataset, raw.train_dataset), (events.val_dataset, raw.val_dataset)):
        assert {event.episode for event in windows.events} <= set(episodes_of(split))
    total = len(ready(mode="event", split_ratio=1.0).train_dataset)
    assert len(events.train_dataset) + len(events.val_dataset) == total


def test_splitting_leaves_the_global_generator_alone():
    import random

    random.seed(1)
    state = random.getstate()
    ready(shuffle_episodes=True)
    assert random.getstate() == state


def test_nothing_held_out_gives_no_validation():
    assert ready(split_ratio=1.0).val_dataloader() == []


def test_the_order_is_minestudios_until_its_rows_share_an_episode():
    compared = 0
    for golden in json.loads((GOLDEN / "out" / "sampler.json").read_text()):
        if golden["replicas"] == 1:
            order = list(
                EpisodeBatchSampler(list(LENGTHS.values()), golden["win_len"], golden["batch_size"], shuffle=False)
            )
            right = next((step for step, rows in enumerate(order) if -1 in rows), len(order))
            assert order[:right] == golden["batches"][:right]
            compared += right
    assert compared > 100


def places(loader):
    return [list(zip(batch["episode"], batch["timestamp"][:, 0].tolist(), strict=True)) for batch in loader]


def test_rows_go_on_where_they_stopped():
    module = ready(episode_continuous_batch=True, batch_size=2, split_ratio=1.0, win_len=20, skip_frame=2)
    before, seen = [("", 0)] * 2, []
    for batch in module.train_dataloader():
        now = list(zip(batch["episode"], batch["timestamp"][:, 0].tolist(), strict=True))
        for row, (episode, start) in enumerate(now):
            goes_on = (episode, start) == (before[row][0], before[row][1] + 40)
            assert goes_on or start == 0
            assert batch["first"][row].tolist() == [not goes_on] + [False] * 19
            seen += [(episode, frame) for frame in batch["timestamp"][row][batch["mask"][row]].tolist()]
        before = now
    expected = [(episode, frame) for episode, frames in LENGTHS.items() for frame in range(0, frames, 2)]
    assert sorted(seen) == sorted(expected)


def test_events_are_never_continuous():
    # MineStudio's fine-tuning of VPT asks for both.
    with pytest.warns(UserWarning, match="episode_continuous_batch has no effect"):
        asked = ready(mode="event", episode_continuous_batch=True, batch_size=2, split_ratio=1.0)
    plain = ready(mode="event", batch_size=2, split_ratio=1.0)
    for one, other in zip(asked.train_dataloader(), plain.train_dataloader(), strict=True):
        assert one["first"][:, 0].all()
        assert (one["episode"], one["timestamp"].tolist()) == (other["episode"], other["timestamp"].tolist())


@pytest.mark.parametrize("mode", ["raw", "event"])
def test_windows_that_stand_alone_all_begin_anew(mode):
    module = ready(mode=mode, batch_size=4, split_ratio=1.0)
    batches = list(module.train_dataloader())
    assert all(batch["first"][:, 0].all() and not batch["first"][:, 1:].any() for batch in batches)
    seen = [place for batch in places(batches) for place in batch if place[0]]
    assert len(seen) == len(module.train_dataset)
    assert places(batches) == places(module.train_dataloader())
    assert seen != sorted(seen)


@pytest.mark.parametrize("mode", ["raw", "event"])
def test_validation_comes_in_order_and_whole(mode):
    module = ready(mode=mode, batch_size=4, split_ratio=0.7)
    seen = [place for batch in places(module.val_dataloader()) for place in batch if place[0]]
    assert len(seen) == len(module.val_dataset)
    if mode == "raw":
        assert seen == sorted(seen)


# --- data that cannot be read -----------------------------------------------------------------------


def cut_off(raw):
    return raw[: len(raw) // 2]


def no_mask(raw):
    chunk = load_payload(raw)
    for frame in chunk:
        for entry in frame.values():
            entry["rle_mask"] = "230400 7"
    return dump_payload(chunk)


DAMAGE = {
    "image": cut_off,
    "action": cut_off,
    "meta_info": lambda raw: dump_payload([{}] * 31),
    "segmentation": no_mask,
}
ALL = {"enable_meta_info": True, "enable_segment": True, "split_ratio": 1.0, "episode_continuous_batch": True}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("modality", DAMAGE)
def test_a_chunk_that_cannot_be_read_stops_with_its_place(dataset, change_chunk, modality, workers):
    place = change_chunk(dataset, modality, LONGEST, 128, DAMAGE[modality])
    module = ready(dataset_dirs=[str(dataset)], num_workers=workers, **ALL)
    with pytest.raises(MscoreError) as caught:
        list(module.train_dataloader())
    assert str(caught.value).startswith(f"{place}: ")
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("modality", ["image", "segmentation"])
def test_a_window_that_cannot_be_read_is_left_out_and_counted(dataset, change_chunk, modality, workers):
    change_chunk(dataset, modality, LONGEST, 128, DAMAGE[modality])
    module = ready(dataset_dirs=[str(dataset)], num_workers=workers, batch_size=2, on_error="skip", **ALL)
    whole = ready(batch_size=2, **ALL)
    with pytest.warns(UserWarning, match=r"left out \(on_error: skip\)") as said:
        batches = list(module.train_dataloader())
    assert len(said) == 1
    left_out = 0
    for found, expected in zip(batches, whole.train_dataloader(), strict=True):
        assert found.keys() == expected.keys()
        for row, (episode, start) in enumerate(zip(expected["episode"], expected["timestamp"][:, 0], strict=True)):
            if (episode, start) == (LONGEST, 128):
                left_out += 1
                assert found["episode"][row] == found["text"][row] == ""
                assert found["first"][row, 0]
                assert not found["mask"][row].any()
                assert not found["image"][row].any()
                assert not found["segmentation"]["obj_mask"][row].any()
                assert not found["agent_action"]["buttons"][row].any()
                assert found["meta_info"]["yaw"][row] == [None] * 32
            else:
                assert found["episode"][row] == episode
                assert found["image"][row].equal(expected["image"][row])
                assert found["mask"][row].equal(expected["mask"][row])
                assert found["segmentation"]["obj_mask"][row].equal(expected["segmentation"]["obj_mask"][row])
    assert left_out == 1
    with pytest.warns(UserWarning, match="1 window of 1 episode") as said:
        module.teardown("fit")
    assert LONGEST in str(said[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.teardown("fit")


def test_actions_of_another_world_need_their_spaces(dataset, change_chunk):
    elsewhere = dump_payload({"action": np.zeros(32, np.int64)})
    for episode, frames in LENGTHS.items():
        for start in range(0, frames, 32):
            change_chunk(dataset, "action", episode, start, lambda _: elsewhere)
    with pytest.raises(MscoreError, match=r"actions action, which are not Minecraft's(.|\n)*spaces\.json"):
        ready(dataset_dirs=[str(dataset)])


def test_episodes_that_a_modality_lacks_are_said(dataset):
    shutil.rmtree(dataset / "action" / "part-7")
    module = data(dataset_dirs=[str(dataset)])
    with pytest.warns(UserWarning, match=f"3 episodes left out(.|\n)*not in action(.|\n)*{LONGEST}"):
        module.prepare_data()


def test_events_need_their_folder(dataset):
    shutil.rmtree(dataset / "event")
    with pytest.raises(MscoreError, match=f"{dataset}/event: there is no such folder"):
        ready(dataset_dirs=[str(dataset)], mode="event")


def test_events_of_episodes_that_cannot_be_used_are_left_out(dataset):
    shutil.rmtree(dataset / "action" / "part-7")
    with pytest.warns(UserWarning, match="left out"):
        module = ready(dataset_dirs=[str(dataset)], mode="event", split_ratio=1.0)
    used = {event.episode for event in module.train_dataset.events}
    assert used
    assert LONGEST not in used


def test_several_datasets_are_one(dataset):
    for modality in ("image", "action"):
        shutil.rmtree(dataset / modality / "part-7")
    module = ready(dataset_dirs=[str(dataset), DATASET], split_ratio=1.0)
    assert episodes_of(module.train_dataset) == sorted(LENGTHS)


def test_workers_write_frames_to_where_the_training_process_finds_them():
    module = ready(num_workers=1, batch_size=2, enable_segment=True)
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].is_shared()
    assert batch["segmentation"]["obj_mask"].is_shared()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_workers_may_be_started_in_any_way(how):
    module = ready(enable_segment=True, enable_meta_info=True, split_ratio=1.0)
    module.train_dataset.__getitems__([0])  # what this process has opened must not reach the others
    loaders = [
        module.training_loader(module.train_dataset, batch_size=4, **options)
        for options in ({}, {"num_workers": 2, "multiprocessing_context": how})
    ]
    for alone, shared in zip(*loaders, strict=True):
        assert alone["episode"] == shared["episode"]
        assert alone["image"].equal(shared["image"])
        assert alone["meta_info"] == shared["meta_info"]
        assert alone["segmentation"]["obj_mask"].equal(shared["segmentation"]["obj_mask"])
