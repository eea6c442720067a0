"""Converting Minari datasets: pictures, actions of any space, what came of them, and what is no picture."""

import dataclasses
import io
import json
import warnings
from pathlib import Path

import av
import gymnasium
import minigrid  # noqa: F401  (registers the environments)
import numpy as np
import pytest
import torch
from gymnasium import spaces
from minigrid.wrappers import RGBImgPartialObsWrapper
from mscore_plugin_minestudio import MineDataModule
from mscore_plugin_minestudio.commands.convert import convert
from mscore_plugin_minestudio.storage.payloads import load_payload
from mscore_plugin_minestudio.storage.store import open_catalog
from mscore_plugin_minestudio.storage.stored_spaces import flatten_action, padding_action, read_spaces, unflatten_action
from mscore_plugin_minestudio.transcoding.transcoding import transcode

from mscore import MscoreError
from mscore.testing import TinyObjective, TinyPolicy

minari = pytest.importorskip("minari")

STEPS = (40, 70, 33)


class Level(RGBImgPartialObsWrapper):
    """A level of MiniGrid as pictures of 56 pixels, with the mission as text."""

    def __init__(self):
        super().__init__(gymnasium.make("MiniGrid-Empty-5x5-v0", max_steps=200), tile_size=8)
        self.observation_space["mission"] = spaces.Text(100)


def play(env, steps, seed, changed=lambda observation: observation):
    """An episode of random steps."""
    observation, _ = env.reset(seed=seed)
    env.action_space.seed(seed)
    observations, actions, rewards = [changed(observation)], [], []
    for _ in range(steps):
        # Turning ends no episode.
        actions.append(env.action_space.sample() % 2)
        observation, reward, *_ = env.step(actions[-1])
        observations.append(changed(observation))
        rewards.append(float(reward) + len(actions))
    if isinstance(observations[0], dict):
        observations = {key: [one[key] for one in observations] for key in observations[0]}
    return minari.data_collector.EpisodeBuffer(
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminations=[False] * steps,
        truncations=[False] * (steps - 1) + [True],
        infos={},
    )


def write(root, buffers, observation_space, action_space, dataset_id="test/level-v0", **options):
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        minari.create_dataset_from_buffers(
            dataset_id, buffers, observation_space=observation_space, action_space=action_space, **options
        )
    return root / dataset_id


@pytest.fixture(scope="module")
def level(tmp_path_factory):
    env = Level()
    buffers = [play(env, steps, seed) for seed, steps in enumerate(STEPS)]
    root = tmp_path_factory.mktemp("minari")
    return write(root, buffers, env.observation_space, env.action_space, jpeg_encoding=False)


def run(*arguments):
    convert.main([str(argument) for argument in arguments], standalone_mode=False)


def chunks(dataset, modality):
    """Episode to its payloads."""
    store = open_catalog([dataset], [modality]).stores[modality]
    return {
        name: [store.read_chunk(name, start) for start in range(0, record.frames, store.chunk_frames)]
        for name, record in store.episodes.items()
    }


def frames_of(payloads, frames):
    pictures = []
    for payload in payloads:
        with av.open(io.BytesIO(payload)) as video:
            pictures += [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    return np.stack(pictures[:frames])


@pytest.mark.parametrize("tail", [False, True])
def test_a_dataset_is_converted_with_all_that_it_holds(level, tmp_path, tail):
    run(level, "--to", tmp_path / "converted", "--workers", 1, *(["--keep-tail"] if tail else []))
    frames = dict(zip(("episode-0", "episode-1", "episode-2"), STEPS if tail else (32, 64, 32), strict=True))
    catalog = open_catalog([tmp_path / "converted"], ["image", "action", "meta_info"])
    assert {episode.name: episode.frames for episode in catalog.episodes} == frames
    image, action, info = (chunks(tmp_path / "converted", name) for name in ("image", "action", "meta_info"))
    for number, episode in enumerate(minari.MinariDataset(level / "data").iterate_episodes()):
        name = f"episode-{number}"
        count = frames[name]
        actions = np.concatenate([load_payload(payload)["action"] for payload in action[name]])[:count]
        assert actions.tolist() == episode.actions[:count].tolist()
        infos = [one for payload in info[name] for one in load_payload(payload)][:count]
        assert [one["direction"] for one in infos] == episode.observations["direction"][:count].tolist()
        assert [one["mission"] for one in infos] == episode.observations["mission"][:count]
        assert [one["reward"] for one in infos] == episode.rewards[:count].tolist()
        assert [one["truncated"] for one in infos] == episode.truncations[:count].tolist()
        assert not any(one["terminated"] for one in infos)
        assert set(infos[0]) == {"direction", "mission", "reward", "terminated", "truncated"}
        pictures = frames_of(image[name], count)
        expected = episode.observations["image"][:count]
        assert np.abs(pictures.astype(int) - expected).mean() < 12
        # Row t is the observation of action t: every other row is further from the picture.
        moved = np.abs(pictures[1:].astype(int) - expected[:-1]).mean()
        assert np.abs(pictures[1:].astype(int) - expected[1:]).mean() < moved


def test_the_spaces_are_kept(level, tmp_path):
    run(level, "--to", tmp_path / "converted", "--workers", 2)
    stored = read_spaces([tmp_path / "converted"])
    assert stored.action_space == spaces.Discrete(7)
    assert stored.observation_space["image"] == Level().observation_space["image"]
    (tmp_path / "minecraft").mkdir()
    assert read_spaces([tmp_path / "minecraft"]) is None
    with pytest.raises(MscoreError, match=r"minecraft/spaces\.json: other spaces than those of"):
        read_spaces([tmp_path / "converted", tmp_path / "minecraft"])
    (tmp_path / "minecraft" / "spaces.json").write_text('{"action_space": 3}')
    with pytest.raises(MscoreError, match=r"spaces\.json: no spaces of a dataset"):
        read_spaces([tmp_path / "minecraft"])


def test_a_dataset_is_found_by_its_id(level, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(level.parents[1]))
    run("test/level-v0", "--to", tmp_path / "converted", "--workers", 1)
    assert json.loads((tmp_path / "converted" / "conversion.json").read_text())["source"] == str(level / "data")
    with pytest.raises(MscoreError, match=r"no Minari dataset 'test/levels-v0' .* there are 'test/level-v0'"):
        run("test/levels-v0", "--to", tmp_path / "other")


def test_what_was_converted_is_trained_on(level, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(level, "--to", "converted", "--workers", 1, "--keep-tail")
    data = MineDataModule(dataset_dirs=["converted"], win_len=16, frame_width=56, frame_height=56, split_ratio=1.0,
                          batch_size=2, episode_continuous_batch=True, enable_meta_info=True)  # fmt: skip
    data.prepare_data()
    assert data.action_space == spaces.Discrete(7)
    data.setup()
    episodes = list(minari.MinariDataset(level / "data").iterate_episodes())
    transcode(Path("converted"), Path("small"), (32, 32), "jpeg", workers=1)
    assert read_spaces(["small"]) == read_spaces(["converted"])
    seen = 0
    for batch in data.train_dataloader():
        assert batch["agent_action"].shape == (2, 16)
        assert batch["agent_action"].dtype == torch.int64
        for row, name in enumerate(batch["episode"]):
            for place in batch["mask"][row].nonzero().flatten().tolist():
                time = int(batch["timestamp"][row, place])
                assert batch["agent_action"][row, place] == episodes[int(name[-1])].actions[time]
                seen += 1
    assert seen == sum(STEPS)


def test_padding_is_in_the_action_space(tmp_path):
    env = Level()
    space = spaces.Dict({"move": spaces.Discrete(3, start=5), "look": spaces.Box(0.5, 1, (2,), np.float32)})
    space.seed(0)
    episode = play(env, 40, 0)
    sampled = [space.sample() for _ in range(40)]
    episode = dataclasses.replace(episode, actions={key: [one[key] for one in sampled] for key in space})
    dataset = write(tmp_path, [episode], env.observation_space, space)
    run(dataset, "--to", tmp_path / "converted", "--keep-tail")
    data = MineDataModule(dataset_dirs=[tmp_path / "converted"], win_len=16, frame_width=16, frame_height=16,
                          split_ratio=1.0, batch_size=2, episode_continuous_batch=True)  # fmt: skip
    data.prepare_data()
    data.setup()
    policy = TinyPolicy(data.action_space, observation_space=data.observation_space)
    batches = list(data.train_dataloader())
    assert [batch["mask"].sum().item() for batch in batches] == [16, 16, 8]
    for batch in batches:
        # The head refuses what lies outside of the space, behind an episode's end and in idle rows too.
        loss = TinyObjective()(batch, 0, "train", policy(batch, None)[0], policy)["loss"]
        assert torch.isfinite(loss)
        assert batch["agent_action"]["move"].min() >= 5


ARM = spaces.Dict({
    "grip": spaces.MultiBinary(2),
    "arm": spaces.Dict({"joint": spaces.Box(-1, 1, (3,), np.float64), "mode": spaces.Discrete(3, start=1)}),
    "keys": spaces.MultiDiscrete([3, 4]),
})  # fmt: skip


def assert_shapes(value, space, leading):
    if isinstance(value, dict):
        for key, part in value.items():
            assert_shapes(part, space[key], leading)
    else:
        assert value.shape == (*leading, *space.shape)


@pytest.mark.parametrize("space", [ARM, spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(3, start=2)])
def test_actions_are_stored_by_name_and_come_back(space):
    space.seed(0)
    taken = [space.sample() for _ in range(5)]

    def stacked(samples):
        if isinstance(samples[0], dict):
            return {key: stacked([sample[key] for sample in samples]) for key in samples[0]}
        return np.stack(samples)

    stored = flatten_action(space, stacked(taken))
    assert set(stored) == ({"grip", "arm.joint", "arm.mode", "keys"} if space is ARM else {"action"})
    back = unflatten_action(space, stored)
    windows = {name: array[None, :, ...].repeat(2, axis=0) for name, array in stored.items()}
    assert_shapes(unflatten_action(space, windows), space, (2, 5))
    padding = unflatten_action(space, padding_action(space))
    if not isinstance(space, spaces.Dict):
        assert padding in space
    else:
        assert padding["arm"]["mode"] == 1
    if space is ARM:
        assert (back["arm"]["joint"].dtype, back["arm"]["mode"].dtype) == (np.float32, np.int64)
        assert back["arm"]["joint"].shape == (5, 3)
        back = back["arm"]["mode"]
        taken = [one["arm"]["mode"] for one in taken]
    np.testing.assert_array_equal(back, taken)
    with pytest.raises(MscoreError, match=r"action '.*': found other alone"):
        unflatten_action(space, {"other": np.zeros(3)})


def test_two_actions_of_one_name_are_refused():
    space = spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(2)}), "a.b": spaces.Discrete(2)})
    with pytest.raises(MscoreError, match=r"two parts of the action space would be stored as 'a\.b'"):
        flatten_action(space, {"a": {"b": np.zeros(3)}, "a.b": np.ones(3)})


def test_a_grey_picture_without_a_name(tmp_path):
    env = Level()
    buffers = [play(env, 40, 0, lambda observation: observation["image"][..., 1].copy())]
    dataset = write(tmp_path, buffers, spaces.Box(0, 255, (56, 56), np.uint8), env.action_space, data_format="arrow")
    run(dataset, "--to", tmp_path / "converted")
    pictures = frames_of(chunks(tmp_path / "converted", "image")["episode-0"], 32)
    assert pictures.shape == (32, 56, 56, 3)
    assert np.abs(pictures.astype(int) - pictures[..., :1]).max() <= 2


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-1, 1, (3,), np.float32), "expected one picture .* found none"),
        (spaces.Box(0, 255, (7, 7, 3), np.uint8), "found none"),
        (spaces.Dict({name: spaces.Box(0, 255, (40, 40, 3), np.uint8) for name in "ab"}), "found 'a', 'b'"),
        (spaces.Dict({"reward": spaces.Discrete(2), "image": spaces.Box(0, 255, (40, 40), np.uint8)}), "'reward'"),
        (spaces.Box(0, 255, (35, 35, 3), np.uint8), "even size"),
    ],
)
def test_what_has_no_place_in_the_layout(tmp_path, space, message):
    samples = [space.sample() for _ in range(41)]
    buffer = minari.data_collector.EpisodeBuffer(
        observations={key: [one[key] for one in samples] for key in samples[0]} if isinstance(samples[0], dict)
        else samples,
        actions=[0] * 40, rewards=[0.0] * 40, terminations=[False] * 40, truncations=[False] * 40, infos={},
    )  # fmt: skip
    dataset = write(tmp_path, [buffer], space, spaces.Discrete(2))
    with pytest.raises(MscoreError, match=message):
        run(dataset, "--to", tmp_path / "converted")


def damaged(level, tmp_path):
    import shutil

    import h5py

    copy = Path(shutil.copytree(level, tmp_path / "level-v0"))
    with h5py.File(copy / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/actions"]
        file["episode_1/actions"] = np.zeros(5)
        del file["episode_2/rewards"]
    return copy


def test_an_episode_that_cannot_be_read_is_left_out_or_stops(level, tmp_path, capsys):
    dataset = damaged(level, tmp_path)
    run(dataset, "--to", tmp_path / "converted", "--workers", 1)
    out = capsys.readouterr().out
    assert "converted: 1 episodes, 32 frames" in out
    assert "episode-1: 71 observations and {'action': 5} actions for 70 rewards" in out
    assert "episode-2: it cannot be read (KeyError" in out
    with pytest.raises(MscoreError, match="episode 'episode-1': 71 observations"):
        run(dataset, "--to", tmp_path / "other", "--workers", 1, "--on-error", "raise")


def test_no_environment_is_made_of_a_dataset(level, tmp_path):
    dataset = damaged(level, tmp_path)
    path = dataset / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["action_space"]
    trap = tmp_path / "trapped"
    metadata["env_spec"] = json.dumps({"id": "T-v0", "entry_point": "os:mkdir", "kwargs": {"path": str(trap)}})
    path.write_text(json.dumps(metadata))
    with pytest.raises(MscoreError, match="do not say both spaces"):
        run(dataset, "--to", tmp_path / "converted")
    assert not trap.exists()
