"""Spaces as data, and actions and observations between environments and policies."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from gymnasium import spaces

from mscore import MscoreError, is_minecraft, make_action_head, minecraft_action_space
from mscore.heads.spaces import batch_observation, describe_space, restore_space, to_environment

EXACT = {
    "discrete": spaces.Discrete(7),
    "discrete-start": spaces.Discrete(7, start=-3),
    "multidiscrete": spaces.MultiDiscrete([2, 5]),
    "multidiscrete-2d": spaces.MultiDiscrete([[2, 5], [3, 4]]),
    "multidiscrete-start": spaces.MultiDiscrete([2, 5], start=[1, -1]),
    "multibinary": spaces.MultiBinary(4),
    "multibinary-2d": spaces.MultiBinary([2, 3]),
    "picture": spaces.Box(0, 255, (7, 7, 3), np.uint8),
    "box-own-bounds": spaces.Box(np.array([-1.0, 0.1]), np.array([1.0, 2.7]), dtype=np.float32),
    "box-unbounded": spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "box-half-bounded": spaces.Box(np.array([-np.inf, 0.0]), np.array([1.0, np.inf]), dtype=np.float32),
    "box-scalar": spaces.Box(-1.0, 1.0, ()),
    "box-empty": spaces.Box(-1.0, 1.0, (0,)),
    "box-int": spaces.Box(-(2**40), 2**40, (2,), np.int64),
    "nested": spaces.Dict(
        {
            "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
            "hotbar.1": spaces.Discrete(2),
            "inner": spaces.Dict({"a": spaces.Tuple([spaces.Discrete(2), spaces.MultiBinary(2)])}),
        }
    ),
    "minecraft": minecraft_action_space(),
}


def through_json(description):
    # Strict: what an exported policy's config holds must be readable by any JSON reader.
    return json.loads(json.dumps(description, allow_nan=False))


@pytest.mark.parametrize("name", EXACT)
def test_a_space_comes_back_from_json(name):
    space = EXACT[name]
    restored = restore_space(through_json(describe_space(space)))
    assert restored == space
    assert describe_space(restored) == describe_space(space)


def test_a_picture_is_described_in_one_line():
    assert describe_space(EXACT["picture"]) == {
        "type": "Box", "shape": [7, 7, 3], "dtype": "uint8", "low": 0, "high": 255,
    }  # fmt: skip


def test_the_order_of_keys_is_kept():
    # Heads draw their samples in this order, so a restored policy must have it.
    space = spaces.Dict(OrderedDict([("z", spaces.Discrete(2)), ("a", spaces.Discrete(3))]))
    restored = restore_space(through_json(describe_space(space)))
    assert list(restored.spaces) == ["z", "a"]
    assert [key for key, _ in make_action_head(restored, 2).items()] == ["z", "a"]


def test_text_is_described_by_its_length():
    restored = restore_space(through_json(describe_space(spaces.Text(30, charset="abc"))))
    assert isinstance(restored, spaces.Text)
    assert restored.max_length == 30


def test_minigrids_mission_is_text():
    gymnasium = pytest.importorskip("gymnasium")
    pytest.importorskip("minigrid")
    env = gymnasium.make("BabyAI-UnlockPickup-v0")
    description = through_json(describe_space(env.observation_space))
    assert description["spaces"]["mission"]["type"] == "Text"
    assert description["spaces"]["image"] == describe_space(env.observation_space["image"])
    assert describe_space(restore_space(description)) == description
    env.close()


@pytest.mark.parametrize("space", [spaces.Graph(spaces.Discrete(2), None), spaces.Sequence(spaces.Discrete(2))])
def test_a_space_of_another_kind(space):
    with pytest.raises(MscoreError, match=rf"type {type(space).__name__} is not supported; use Box"):
        describe_space(space)
    with pytest.raises(MscoreError, match="is not supported"):
        describe_space(spaces.Dict({"a": space}))


def test_an_unknown_description():
    with pytest.raises(MscoreError, match="unknown space type 'Circle'"):
        restore_space({"type": "Circle"})


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (minecraft_action_space(), True),
        (spaces.Dict({"buttons": spaces.Discrete(33), "camera": spaces.MultiDiscrete([25])}), True),
        (spaces.Dict({"buttons": spaces.MultiBinary(20), "camera": spaces.MultiDiscrete([121])}), False),
        (spaces.Dict({"buttons": spaces.Discrete(33), "camera": spaces.Box(-1.0, 1.0, (2,))}), False),
        (spaces.Dict({"buttons": spaces.Discrete(3), "camera": spaces.MultiDiscrete([11, 11])}), False),
        (spaces.Dict({"buttons": spaces.Discrete(3)}), False),
        (spaces.Discrete(3), False),
    ],
)
def test_minecrafts_space_is_told_from_others(space, expected):
    assert is_minecraft(space) is expected


ACTIONS = [name for name in EXACT if name not in ("picture", "box-empty", "box-int", "nested")]


@pytest.mark.parametrize("name", ACTIONS)
def test_what_a_head_samples_an_environment_accepts(name):
    space = EXACT[name]
    head = make_action_head(space, 4)
    action = head.sample(head(10 * torch.randn(1, 1, 4)))
    single = {k: v[0, 0] for k, v in action.items()} if isinstance(action, dict) else action[0, 0]
    assert space.contains(to_environment(single, space))


def test_continuous_actions_are_clipped():
    space = spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,)), "b": spaces.Discrete(3, start=1)})
    action = to_environment({"a": torch.tensor([-7.0, 0.5]), "b": torch.tensor(2)}, space)
    np.testing.assert_array_equal(action["a"], np.array([-1.0, 0.5], np.float32))
    assert action["a"].dtype == np.float32
    assert action["b"] == 2
    assert space.contains(action)


class TestObservations:
    device = torch.device("cpu")

    def test_a_dict_of_everything(self):
        row = {
            "image": np.zeros((4, 4, 3), np.uint8),
            "mission": "open the door",
            "direction": 3,
            "pose": {"x": np.float32(0.5)},
            "pair": (np.ones(2), 1),
        }
        batch = batch_observation([row, row, row], self.device)
        assert batch["image"].shape == (3, 1, 4, 4, 3)
        assert batch["image"].dtype == torch.uint8
        assert batch["mission"] == [["open the door"]] * 3
        assert batch["direction"].tolist() == [[3], [3], [3]]
        assert batch["pose"]["x"].shape == (3, 1)
        assert [part.shape for part in batch["pair"]] == [(3, 1, 2), (3, 1)]

    def test_a_bare_observation_is_called_image(self):
        batch = batch_observation([np.zeros(5), np.ones(5)], self.device)
        assert list(batch) == ["image"]
        assert batch["image"].shape == (2, 1, 5)

    def test_later_changes_of_the_environments_array_do_not_show(self):
        row = np.zeros(3)
        batch = batch_observation([row], self.device)
        row += 1
        assert batch["image"].sum() == 0
