"""Actions and their ids, and meta information: as MineStudio's own reader returns them."""

import json
import pickle
from functools import partial

import numpy as np
import pytest
from mscore_plugin_minestudio.modalities.actions import ActionReader, to_agent_action, to_env_action
from mscore_plugin_minestudio.modalities.meta_info import MetaInfoReader, columns
from mscore_plugin_minestudio.modalities.vpt_actions import INVENTORY_BUTTONS, NULL_BUTTONS, NULL_CAMERA
from mscore_plugin_minestudio.storage.layout import ACTION_KEYS, CAMERA_KEY, FLAG_KEYS, DatasetError
from mscore_plugin_minestudio.storage.payloads import dump_payload, load_payload
from mscore_plugin_minestudio.storage.store import open_catalog

import mscore
from mscore import MscoreError, minecraft_action_space

B = "Player1-bbbbbb-20220101-101500"
D = "Player3-dddddd-20220103-083000"


def actions_of(folder):
    return ActionReader(open_catalog([folder], ["action"]).stores["action"])


@pytest.fixture(scope="module")
def reader(golden):
    return actions_of(golden / "dataset")


@pytest.fixture(scope="module")
def tables(golden):
    return dict(np.load(golden / "out" / "action_tables.npz"))


def flags(tables, rows):
    return dict(zip(tables["button_order"].tolist(), rows.T, strict=True))


def pressed(*keys, camera=(0.0, 0.0)):
    """Ids of one action."""
    action = {key: np.array([key in keys]) for key in FLAG_KEYS} | {CAMERA_KEY: np.array([camera])}
    ids = to_agent_action(action)
    return int(ids["buttons"][0, 0]), int(ids["camera"][0, 0])


# Ids


def test_ids_of_random_actions(tables):
    ids = to_agent_action({**flags(tables, tables["rnd_buttons"]), CAMERA_KEY: tables["rnd_camera"]})
    assert {key: (array.dtype, array.shape) for key, array in ids.items()} == {
        "buttons": (np.int64, (6000, 1)),
        "camera": (np.int64, (6000, 1)),
    }
    np.testing.assert_array_equal(ids["buttons"][:, 0], tables["rnd_agent_buttons"])
    np.testing.assert_array_equal(ids["camera"][:, 0], tables["rnd_agent_camera"])


def test_actions_of_random_ids(tables):
    action = to_env_action(
        {"buttons": tables["rnd_agent_buttons"][:, None], "camera": tables["rnd_agent_camera"][:, None]}
    )
    assert tuple(action) == ACTION_KEYS
    for key, expected in flags(tables, tables["rnd_back_buttons"]).items():
        assert action[key].dtype == np.int64
        np.testing.assert_array_equal(action[key], expected)
    np.testing.assert_allclose(action[CAMERA_KEY], tables["rnd_back_camera"], rtol=0, atol=1e-14)


def test_every_combination_of_buttons(tables):
    ids = np.arange(8641)[:, None]
    action = to_env_action({"buttons": ids, "camera": np.zeros_like(ids)})
    for key, expected in flags(tables, tables["button_idx_to_factored"]).items():
        np.testing.assert_array_equal(action[key], expected)
    still = (action[CAMERA_KEY] == 0).all(axis=1)
    np.testing.assert_array_equal(still, tables["button_idx_camera_off"])
    # With the camera's bit the camera has to turn, or it is another combination.
    np.testing.assert_array_equal(to_agent_action(action)["buttons"], ids)


def test_every_camera_bin(tables):
    ids = np.arange(121)[:, None]
    # A combination of nothing but a camera that turns.
    angles = to_env_action({"buttons": np.ones_like(ids), "camera": ids})[CAMERA_KEY]
    pitch, yaw = tables["camera_idx_to_factored"].T
    np.testing.assert_allclose(angles, tables["cam_bin_deg"][np.stack([pitch, yaw], 1)], rtol=0, atol=1e-14)
    none = {key: np.zeros(121, int) for key in FLAG_KEYS}
    np.testing.assert_array_equal(to_agent_action({**none, CAMERA_KEY: angles})["camera"], ids)


def test_every_angle(tables):
    degrees, bins = tables["cam_grid_deg"], tables["cam_grid_bin"].astype(int)
    none = {key: np.zeros(len(degrees), int) for key in FLAG_KEYS}
    for camera, expected in (
        (np.stack([degrees, np.zeros_like(degrees)], 1), bins * 11 + 5),
        (np.stack([np.zeros_like(degrees), degrees], 1), 55 + bins),
    ):
        np.testing.assert_array_equal(to_agent_action({**none, CAMERA_KEY: camera})["camera"][:, 0], expected)


def test_the_rules_of_the_groups():
    assert mscore.NULL_CAMERA == NULL_CAMERA
    assert pressed() == (NULL_BUTTONS, NULL_CAMERA)
    assert pressed("forward", "back") == pressed("left", "right") == pressed()
    assert pressed("sprint", "sneak") == pressed("sneak")
    assert pressed("hotbar.2", "hotbar.7", "jump") == pressed("hotbar.7", "jump")
    assert pressed(camera=(0.3, 0)) == (1, 6 * 11 + 5)
    assert pressed("inventory", "attack", "hotbar.3", camera=(5, 5)) == (INVENTORY_BUTTONS, NULL_CAMERA)


def test_any_leading_shape_and_kind_of_flags(reader):
    action = reader.read(D, np.arange(384))
    ids = to_agent_action(action)
    folded = to_agent_action(
        {
            key: value.reshape(4, 96, *value.shape[1:]).astype(bool if value.ndim == 1 else None)
            for key, value in action.items()
        }
    )
    np.testing.assert_array_equal(folded["buttons"], ids["buttons"].reshape(4, 96, 1))
    np.testing.assert_array_equal(folded["camera"], ids["camera"].reshape(4, 96, 1))
    back = to_env_action(folded)
    assert back[CAMERA_KEY].shape == (4, 96, 2)
    one = to_agent_action({key: value[0] for key, value in action.items()})
    assert (one["buttons"].shape, one["buttons"][0]) == ((1,), ids["buttons"][0, 0])


@pytest.mark.parametrize(("name", "wrong"), [("buttons", 8641), ("buttons", -1), ("camera", 121), ("camera", -1)])
def test_ids_out_of_range_are_refused(name, wrong):
    ids = {"buttons": np.zeros((2, 1), int), "camera": np.zeros((2, 1), int)}
    ids[name][1] = wrong
    with pytest.raises(MscoreError, match=f"{name} ids .* expected ids from 0 to"):
        to_env_action(ids)


# Reading


def test_the_golden_actions_and_their_ids(reader, golden):
    stored = np.load(golden / "out" / "actions.npz")
    assert reader.is_minecraft
    for episode, record in reader.store.episodes.items():
        action = reader.read(episode, np.arange(record.frames))
        assert tuple(action) == ACTION_KEYS
        for key, value in action.items():
            assert value.dtype == (np.float64 if key == CAMERA_KEY else np.int64)
            np.testing.assert_array_equal(value, stored[f"{episode}/env/{key}"])
        ids = to_agent_action(action)
        np.testing.assert_array_equal(ids["buttons"][:, 0], stored[f"{episode}/buttons"])
        np.testing.assert_array_equal(ids["camera"][:, 0], stored[f"{episode}/camera"])
        assert minecraft_action_space().contains({key: value[0] for key, value in ids.items()})


@pytest.mark.parametrize("frames", [[0], [31, 32], range(5, 70), range(3, 380, 7), [1, 2, 4, 200], [383]])
def test_any_frames(reader, frames):
    frames = np.array(frames)
    whole = reader.read(D, np.arange(384))
    for key, value in reader.read(D, frames).items():
        np.testing.assert_array_equal(value, whole[key][frames])
        assert value.flags.writeable
        assert value.flags.aligned


def test_a_reader_may_be_sent_away(reader):
    reader.read(D, np.arange(32))
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.read(D, np.arange(64))["use"], reader.read(D, np.arange(64))["use"])


def written(folder, edit, payloads):
    """A dataset of one episode with these action payloads."""
    frames = 32 * len(payloads)
    info = {"episode": "a", "episode_idx": 0, "num_frames": frames}
    edit(
        folder / "action" / "part-1",
        {
            b"__chunk_size__": dump_payload(32),
            b"__chunk_infos__": dump_payload([info]),
            b"__num_episodes__": dump_payload(1),
            b"__num_total_frames__": dump_payload(frames),
            **{b"(0, %d)" % (32 * i): payload for i, payload in enumerate(payloads)},
        },
    )
    return actions_of(folder)


def test_actions_of_another_world(tmp_path, edit):
    generator = np.random.default_rng(0)
    chunks = [
        {"action": generator.normal(size=(32, 3)).astype(np.float32), "left": generator.integers(0, 5, 32)}
        for _ in range(3)
    ]
    reader = written(tmp_path, edit, [dump_payload(chunk) for chunk in chunks])
    assert not reader.is_minecraft
    assert reader.spec == {"action": (np.dtype(np.float32), (3,)), "left": (np.dtype(np.int64), ())}
    read = reader.read("a", np.arange(10, 90))
    for key, value in read.items():
        np.testing.assert_array_equal(value, np.concatenate([chunk[key] for chunk in chunks])[10:90])


def test_chunks_of_different_writers(tmp_path, edit, golden):
    chunk = {key: np.arange(32) % 2 for key in FLAG_KEYS} | {CAMERA_KEY: np.ones((32, 2))}
    narrow = {key: value.astype(np.int32 if key != CAMERA_KEY else np.float32) for key, value in chunk.items()}
    shuffled = dict(reversed(narrow.items()))
    payloads = [pickle.dumps(chunk, 4), pickle.dumps(narrow, 5), pickle.dumps(shuffled, 3), pickle.dumps(chunk, 5)]
    read = written(tmp_path, edit, payloads).read("a", np.arange(128))
    for key, value in read.items():
        assert value.dtype == chunk[key].dtype
        np.testing.assert_array_equal(value, np.concatenate([chunk[key]] * 4))


def without(key, chunk):
    del chunk[key]


def put(key, value, chunk):
    chunk[key] = value


SPOILED = {
    "a key less": (partial(without, "jump"), "without jump", "keys that only some chunks have: jump"),
    "a key more": (partial(put, "chat", np.zeros(32)), None, "keys that only some chunks have: chat"),
    "a frame less": (partial(put, "use", np.zeros(31, int)), None, "shape (31,); expected int64 of (32,)"),
    "a frame more": (partial(put, "camera", np.zeros((33, 2))), None, "'camera' is float64 of shape (33, 2)"),
    "no frame": (partial(put, "use", np.array(0)), None, "'use' is int64 of shape ()"),
    "one angle": (partial(put, "camera", np.zeros(32)), "'camera' is no angle", "'camera' is float64 of shape (32,)"),
    "flags of floats": (partial(put, "use", np.zeros(32)), "'use' is no flag", "'use' is float64 of shape (32,)"),
    "no number": (partial(put, "camera", np.full((32, 2), np.nan)), None, "'camera' holds angles that are no numbers"),
    "endless": (partial(put, "camera", np.full((32, 2), -np.inf)), None, "'camera' holds angles that are no numbers"),
    "a list": (partial(put, "use", [0] * 32), None, "'use' is a list; expected a name and an array"),
}  # fmt: skip
"""Name to what is changed, and what is said of it where the whole dataset is so, and where others are right."""


@pytest.mark.parametrize("case", SPOILED)
@pytest.mark.parametrize("start", [0, 64])
def test_a_spoiled_chunk_is_named(dataset, edit, case, start):
    spoil, _, message = SPOILED[case]
    part = dataset / "action" / "part-7"
    chunk = dict(load_payload(open_catalog([dataset], ["action"]).stores["action"].read_chunk(D, start)))
    spoil(chunk)
    edit(part, {b"(2, %d)" % start: dump_payload(chunk)})
    reader = actions_of(dataset)
    reader.read(B, np.arange(192))
    with pytest.raises(DatasetError) as raised:
        reader.read(D, np.arange(192))
    assert str(raised.value).startswith(f"{part / 'data.mdb'}, key (2, {start}), episode '{D}': ")
    assert message in str(raised.value)


@pytest.mark.parametrize("case", [case for case, (_, alone, _) in SPOILED.items() if alone])
def test_a_dataset_of_no_minecraft_actions_is_named(tmp_path, edit, case):
    spoil, message, _ = SPOILED[case]
    chunk = {key: np.arange(32) % 2 for key in FLAG_KEYS} | {CAMERA_KEY: np.ones((32, 2))}
    spoil(chunk)
    with pytest.raises(DatasetError, match=rf"key \(0, 0\), episode 'a': .*{message}"):
        written(tmp_path, edit, [dump_payload(chunk)]).read("a", np.arange(3))


def test_the_first_chunk_may_be_spoiled(dataset, edit):
    edit(dataset / "action" / "part-4", {b"(0, 0)": b"spoiled"})
    reader = actions_of(dataset)
    assert next(iter(reader.store.episodes)) == B
    assert reader.is_minecraft
    assert len(reader.read(D, np.arange(64))["use"]) == 64
    with pytest.raises(DatasetError, match=f"episode '{B}'"):
        reader.read(B, np.arange(32))


@pytest.mark.parametrize("raw", [b"", b"\x80\x04.", pickle.dumps(print, 4), dump_payload([1]), dump_payload({"a": 1})])
def test_a_chunk_of_something_else_is_named(dataset, edit, raw):
    edit(dataset / "action" / "part-4", {b"(0, 64)": raw})
    reader = actions_of(dataset)
    reader.read(B, np.arange(64))
    with pytest.raises(DatasetError, match=r"action/part-4/data\.mdb, key \(0, 64\), episode '.*bbbbbb"):
        reader.read(B, np.arange(64, 96))


# Meta information


@pytest.fixture(scope="module")
def meta_info(golden):
    return MetaInfoReader(open_catalog([golden / "dataset"], ["meta_info"]).stores["meta_info"])


def test_the_golden_meta_information(meta_info, golden):
    expected = json.loads((golden / "out" / "index.json").read_text())["meta_info"]
    for episode, record in meta_info.store.episodes.items():
        rows = meta_info.read(episode, np.arange(record.frames))
        assert columns(rows, record.frames) == expected[episode]
        some = np.arange(5, record.frames, 9)
        assert meta_info.read(episode, some) == [rows[number] for number in some]


def test_columns_are_padded_with_nothing():
    assert columns([{"yaw": 1.5, "events": {}}, {"yaw": 2.0}], 4) == {
        "yaw": [1.5, 2.0, None, None],
        "events": [{}, None, None, None],
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([{}] * 31, "31 frames; expected a list of 32"),
        ({"yaw": []}, "a dict; expected a list of 32"),
        ([{}] * 31 + [None], "a frame that is no dict of names"),
        ([{}] * 31 + [{1: 2}], "a frame that is no dict of names"),
    ],
)
def test_spoiled_meta_information_is_named(dataset, edit, value, message):
    edit(dataset / "meta_info" / "part-4", {b"(0, 64)": dump_payload(value)})
    reader = MetaInfoReader(open_catalog([dataset], ["meta_info"]).stores["meta_info"])
    reader.read(B, np.arange(64))
    with pytest.raises(DatasetError, match=rf"key \(0, 64\), episode '{B}': {message}"):
        reader.read(B, np.arange(64, 96))
