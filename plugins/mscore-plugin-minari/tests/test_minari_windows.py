"""Batches hold what the environments showed and did, and what Minari itself reads."""

import gymnasium
import minari
import minigrid  # noqa: F401  (registers the environments)
import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest
import torch
from gymnasium import spaces
from minigrid.wrappers import ImgObsWrapper, RGBImgPartialObsWrapper
from mscore_plugin_minari import MinariDataModule

LEVEL = "BabyAI-GoToObj-v0"

ENVIRONMENTS = {
    "cartpole/random-v0": lambda: gymnasium.make("CartPole-v1"),
    "pendulum/random-v0": lambda: gymnasium.make("Pendulum-v1", max_episode_steps=20),
    "minigrid/bot-v0": lambda: gymnasium.make(LEVEL),
    "minigrid/pictures-v0": lambda: ImgObsWrapper(RGBImgPartialObsWrapper(gymnasium.make(LEVEL), tile_size=5)),
}

NESTED = spaces.Dict({
    "pair": spaces.Tuple([spaces.Discrete(5, start=-2), spaces.Text(12, min_length=0)]),
    "inner": spaces.Dict({
        "speed": spaces.Box(-1, 1, (), np.float64),
        "picture": spaces.Box(0, 255, (40, 36), np.uint8),
    }),
    "symbols": spaces.Box(0, 10, (5, 5, 2), np.int64),
    "switches": spaces.MultiBinary((2, 3)),
    "numbers": spaces.MultiDiscrete([3, 4]),
})  # fmt: skip
CHOICES = spaces.Dict({
    "move": spaces.Discrete(4, start=1),
    "keys": spaces.MultiBinary(3),
    "numbers": spaces.MultiDiscrete([[3, 4], [5, 2]]),
    "look": spaces.Box(-1, 1, (2,), np.float64),
})  # fmt: skip


def data(dataset_id, root, **arguments):
    module = MinariDataModule(
        dataset_id, str(root), **{"win_len": 4, "batch_size": 3, "split_ratio": 1.0, "num_workers": 0, **arguments}
    )
    module.prepare_data()
    module.setup()
    return module


def part(value, row, step):
    """One frame of a batch."""
    if isinstance(value, dict):
        return {key: part(item, row, step) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(part(item, row, step) for item in value)
    return value[row][step] if isinstance(value, list) else value[row, step].numpy()


def frames_of(module):
    """Every valid frame of an epoch: {(episode, timestamp): frame}."""
    frames = {}
    for batch in module.train_dataloader():
        columns = {key: value for key, value in batch.items() if key not in ("episode", "mask")}
        for row, name in enumerate(batch["episode"]):
            for step in batch["mask"][row].nonzero().flatten().tolist():
                key = (int(name.removeprefix("episode-")), int(batch["timestamp"][row, step]))
                assert key not in frames
                frames[key] = part(columns, row, step)
    return frames


def assert_equal(found, expected):
    if isinstance(expected, dict):
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    elif isinstance(expected, str):
        assert found == expected
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dataset_id", ["cartpole/random-v0", "pendulum/random-v0", "minigrid/bot-v0"])
def test_batches_hold_what_happens_when_the_actions_are_played_again(golden, dataset_id):
    frames = frames_of(data(dataset_id, golden))
    env = ENVIRONMENTS[dataset_id]()
    seeds = [
        one["seed"]
        for one in minari.MinariDataset(golden / dataset_id / "data").storage.get_episode_metadata(
            range(1 + max(episode for episode, _ in frames))
        )
    ]
    played = 0
    for episode, seed in enumerate(seeds):
        observation, _ = env.reset(seed=seed)
        over, time = False, 0
        while not over:
            frame = frames[episode, time]
            assert_equal(frame, observation if isinstance(observation, dict) else {"image": observation})
            assert frame["first"] == (time == 0)
            action = frame["agent_action"]
            observation, reward, terminated, truncated, _ = env.step(action if action.ndim else int(action))
            assert frame["reward"] == pytest.approx(reward, rel=1e-5)
            assert (frame["terminated"], frame["truncated"]) == (terminated, truncated)
            over, time, played = terminated or truncated, time + 1, played + 1
    assert played == len(frames)


@pytest.mark.parametrize("dataset_id", ENVIRONMENTS)
def test_the_spaces_are_the_environments(golden, dataset_id):
    module = data(dataset_id, golden)
    env = ENVIRONMENTS[dataset_id]()
    assert module.action_space == env.action_space
    if dataset_id == "minigrid/bot-v0":
        assert isinstance(module.observation_space["mission"], spaces.Text)
        assert module.observation_space["image"] == env.observation_space["image"]
    else:
        assert module.observation_space == env.observation_space


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize("jpeg", [True, False])
def test_every_format_gives_what_minari_reads(tmp_path, write, read_by_minari, data_format, jpeg):
    where = write(tmp_path, observation_space=NESTED, action_space=CHOICES, data_format=data_format, jpeg_encoding=jpeg)
    frames = frames_of(data(**where))
    episodes = read_by_minari(**where)
    assert len(frames) == sum(map(len, episodes))
    for (number, time), frame in frames.items():
        episode = episodes[number]
        assert len(episode.rewards) + 1 == len(episode.observations["symbols"])
        assert_equal(frame, cut(episode.observations, time))
        assert_equal(frame["agent_action"], cut(episode.actions, time))
        assert frame["reward"] == np.float32(episode.rewards[time])
        assert frame["terminated"] == episode.terminations[time]
        assert frame["truncated"] == episode.truncations[time]


def cut(value, time):
    if isinstance(value, dict):
        return {key: cut(item, time) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(cut(item, time) for item in value)
    return value[time]


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
def test_a_long_episode_comes_in_several_batches(tmp_path, write, data_format):
    where = write(tmp_path, lengths=[20], data_format=data_format)
    whole = frames_of(data(**where))
    path = tmp_path / where["dataset_id"] / "data" / "0" / f"part-0.{data_format}"
    table = pyarrow.dataset.dataset(path, format=data_format).to_table()
    if data_format == "parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=3)
    else:
        with pyarrow.ipc.new_file(path, table.schema) as file:
            file.write_table(table, max_chunksize=3)
    split = frames_of(data(**where))
    assert len(split) == 20
    for key, frame in whole.items():
        assert_equal(split[key], frame)


def test_names_with_dots_are_kept_apart(tmp_path, write, read_by_minari):
    space = spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(9)}), "a.b": spaces.Discrete(9)})
    where = write(tmp_path, observation_space=space)
    episodes = read_by_minari(**where)
    for (number, time), frame in frames_of(data(**where)).items():
        assert_equal(frame, cut(episodes[number].observations, time))


def test_pictures_are_decoded_as_minari_decodes_them(golden, read_by_minari):
    frames = frames_of(data("minigrid/pictures-v0", golden))
    episodes = read_by_minari("minigrid/pictures-v0", golden)
    for (number, time), frame in frames.items():
        assert (frame["image"] == episodes[number].observations[time]).all()
    assert frame["image"].shape == (35, 35, 3)


def test_dtypes_are_those_of_the_contract(tmp_path, write):
    batch = next(iter(data(**write(tmp_path, observation_space=NESTED, action_space=CHOICES)).train_dataloader()))
    assert {key: value.dtype for key, value in batch["agent_action"].items()} == {
        "move": torch.int64, "keys": torch.int8, "numbers": torch.int64, "look": torch.float32,
    }  # fmt: skip
    assert batch["agent_action"]["numbers"].shape == (3, 4, 2, 2)
    assert batch["inner"]["speed"].dtype == torch.float64
    assert batch["inner"]["picture"].dtype == torch.uint8
    assert batch["inner"]["picture"].shape == (3, 4, 40, 36)
    assert batch["pair"][0].dtype == torch.int64
    assert [len(row) for row in batch["pair"][1]] == [4, 4, 4]
    assert batch["reward"].dtype == torch.float32
    assert batch["terminated"].dtype == batch["truncated"].dtype == torch.bool


@pytest.mark.parametrize(
    "space",
    [spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(3), spaces.MultiBinary(2), spaces.Text(5),
     spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (2, 2), np.float16)])],
    ids=lambda space: type(space).__name__,
)  # fmt: skip
def test_what_has_no_name_is_called_image(tmp_path, write, space):
    module = data(**write(tmp_path, observation_space=space))
    frames = frames_of(module)
    frame = frames[0, 0]
    assert set(frame) == {"image", "agent_action", "reward", "terminated", "truncated", "first", "timestamp"}
    assert frame["image"] in module.observation_space


def test_rows_are_windows_of_whole_episodes(tmp_path, write):
    module = data(**write(tmp_path, lengths=[10, 3]), batch_size=2)
    batches = list(module.train_dataloader())
    assert len(batches) == 3
    row = batches[0]["episode"].index("episode-0")
    assert [batch["timestamp"][row, 0].item() for batch in batches] == [0, 4, 8]
    assert batches[2]["mask"][row].tolist() == [True, True, False, False]
    assert batches[0]["first"][:, 0].tolist() == [True, True]
    assert batches[1]["episode"][1 - row] == ""


def test_the_split_is_by_episode_and_by_seed(tmp_path, write):
    where = write(tmp_path, lengths=[3] * 20)
    modules = [data(**where, split_ratio=0.7, seed=seed) for seed in (0, 0, 1)]
    trained, held_out = ([set(getattr(one, name).episodes) for one in modules] for name in ("train_set", "val_set"))
    assert trained[0] == trained[1] != trained[2]
    for one, other in zip(trained, held_out, strict=True):
        assert (len(one), len(other)) == (14, 6)
        assert one.isdisjoint(other)
    seen = {name for batch in modules[0].val_dataloader() for name in batch["episode"]} - {""}
    assert seen == held_out[0]
    assert data(**where, split_ratio=1.0).val_dataloader() == []


def test_numbers_of_another_dtype_become_the_spaces(tmp_path, write):
    where = write(
        tmp_path,
        observation_space=spaces.Box(0, 255, (2,), np.uint8),
        action_space=spaces.Box(-1, 1, (1,), np.float32),
        buffers=[
            minari.data_collector.EpisodeBuffer(
                observations=np.arange(8).reshape(4, 2),
                actions=np.array([0.5, 0.25, 1.0]),
                rewards=[1, 2, 3],
                terminations=[0, 0, 1],
                truncations=[0, 0, 0],
            )
        ],
    )
    frames = frames_of(data(**where))
    assert frames[0, 2]["image"].tolist() == [4, 5]
    assert frames[0, 2]["image"].dtype == np.uint8
    assert frames[0, 1]["agent_action"].tolist() == [0.25]
    assert frames[0, 2]["terminated"]


def test_the_default_folder_is_minaris(golden, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(golden))
    module = MinariDataModule("cartpole/random-v0")
    module.prepare_data()
    assert module.observation_space.shape == (4,)
