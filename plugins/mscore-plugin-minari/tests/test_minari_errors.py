"""What is wrong with a dataset is said in one message: which file, which episode, what was expected."""

import json
import shutil
import subprocess
import sys

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from mscore_plugin_minari import MinariDataModule

from mscore import MscoreError

PICTURES = spaces.Box(0, 255, (40, 40, 3), np.uint8)


def batches(dataset_id, root, **arguments):
    module = MinariDataModule(dataset_id, str(root), win_len=4, batch_size=2, split_ratio=1.0, **arguments)
    module.prepare_data()
    module.setup()
    return list(module.train_dataloader())


def edit(where, change):
    """Change a dataset's metadata."""
    path = folder(where) / "metadata.json"
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))


def folder(where):
    from pathlib import Path

    return Path(where["root"]) / where["dataset_id"] / "data"


# --- which dataset ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset_id", "message"),
    [
        ("cartpole/random-v1", r"no dataset 'cartpole/random-v1' in .*Did you mean 'cartpole/random-v0'"),
        ("D4RL/door/human-v2", r"There are 'cartpole/random-v0', 'minigrid/bot-v0', .*`download: true`"),
        ("minigrid/bot", r"no id of a Minari dataset; expected `name-v0`.* Did you mean 'minigrid/bot-v0'"),
        ("../golden/cartpole/random-v0", "no id of a Minari dataset"),
        ("cartpole/random-v0/data", "no id of a Minari dataset"),
    ],
)
def test_an_unknown_dataset_is_answered_with_the_nearest(golden, dataset_id, message):
    with pytest.raises(MscoreError, match=message):
        batches(dataset_id, golden)


def test_a_folder_without_datasets(tmp_path):
    with pytest.raises(MscoreError, match="That folder holds no dataset"):
        batches("cartpole/random-v0", tmp_path)
    with pytest.raises(MscoreError, match="That folder does not exist"):
        batches("cartpole/random-v0", tmp_path / "nowhere")


def test_a_server_is_asked_only_when_the_config_says_so(golden, tmp_path, monkeypatch):
    asked = []

    def download(dataset_id):
        asked.append(dataset_id)
        shutil.copytree(golden / dataset_id, minari.storage.get_dataset_path(dataset_id))

    monkeypatch.setattr("minari.download_dataset", download)
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    with pytest.raises(MscoreError, match="no dataset"):
        batches("cartpole/random-v0", tmp_path)
    assert asked == []
    for _ in range(2):
        assert batches("cartpole/random-v0", tmp_path, download=True)
    assert asked == ["cartpole/random-v0"]
    assert "MINARI_DATASETS_PATH" not in minari.storage.datasets_root_dir.os.environ


def test_a_download_that_fails_says_why(tmp_path, monkeypatch):
    def download(dataset_id):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("minari.download_dataset", download)
    with pytest.raises(MscoreError, match=r"'cartpole/random-v0' cannot be downloaded.*no route to host"):
        batches("cartpole/random-v0", tmp_path, download=True)


# --- what its metadata say --------------------------------------------------------------------------


def test_an_empty_dataset(tmp_path, write):
    with pytest.raises(MscoreError, match=r"'test/sampled-v0' .* is empty: it has no episode"):
        batches(**write(tmp_path, lengths=[]))


def test_episodes_without_an_action_are_left_out(tmp_path, write):
    empty = minari.data_collector.EpisodeBuffer(
        observations=np.zeros((1, 3), np.float32), actions=np.zeros(0, np.int64), infos={}
    )
    full = minari.data_collector.EpisodeBuffer(
        observations=np.zeros((3, 3), np.float32), actions=np.zeros(2, np.int64), rewards=[1.0, 1.0],
        terminations=[False, True], truncations=[False, False], infos={},
    )  # fmt: skip
    # Minari's HDF5 writer cannot write one.
    where = write(tmp_path, buffers=[empty, full], data_format="arrow")
    with pytest.warns(UserWarning, match=r"1 of the 2 episodes of 'test/sampled-v0' have no action"):
        assert {name for batch in batches(**where) for name in batch["episode"]} == {"episode-1", ""}
    where = write(tmp_path, "test/void-v0", buffers=[empty], data_format="arrow")
    with pytest.raises(MscoreError, match="none of the episodes of 'test/void-v0'"):
        batches(**where)


@pytest.mark.parametrize(
    "space", [spaces.Text(5), spaces.Box(0, 5, (2,), np.int64), spaces.Tuple([spaces.Discrete(2)])]
)
def test_actions_that_no_policy_can_choose(tmp_path, write, space):
    where = write(tmp_path, action_space=spaces.Dict({"move": spaces.Discrete(2), "more": space}))
    with pytest.raises(MscoreError, match=rf"no policy can choose from the action space {type(space).__name__}"):
        batches(**where)


def test_spaces_that_cannot_be_read(tmp_path, write):
    where = write(tmp_path)
    text = json.dumps({"type": "Dict", "subspaces": {"all": {"type": "Sequence", "subspaces": []}}})
    edit(where, lambda metadata: metadata.update(observation_space=text))
    with pytest.raises(MscoreError, match=r"observation_space holds a space of type Sequence; supported are Box"):
        batches(**where)
    for text in ("[1]", "{", '{"type": "Box"}', 3):
        edit(where, lambda metadata, text=text: metadata.update(observation_space=text))
        with pytest.raises(MscoreError, match=r"metadata\.json: observation_space cannot be read"):
            batches(**where)


def test_observations_with_the_names_of_a_batch(tmp_path, write):
    space = spaces.Dict({"mask": spaces.MultiBinary(3), "place": spaces.Discrete(2), "first": spaces.Discrete(2)})
    with pytest.raises(MscoreError, match="observations are called 'first', 'mask'"):
        batches(**write(tmp_path, observation_space=space))


def test_a_dataset_of_a_newer_minari(tmp_path, write):
    where = write(tmp_path)
    edit(where, lambda metadata: metadata.update(minari_version="9.0.0"))
    with pytest.raises(MscoreError, match=r"written by Minari 9\.0\.0.*pip install --upgrade minari"):
        batches(**where)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda metadata: metadata.pop("total_episodes"), "no metadata of a Minari dataset"),
        (lambda metadata: metadata.update(data_format="zarr"), "data_format 'zarr'"),
        (lambda metadata: metadata.update(total_episodes="many"), "total_episodes 'many'"),
        (lambda metadata: metadata.update(total_episodes=99), r"main_data\.hdf5: episode 6 is missing"),
    ],
)
def test_damaged_metadata(tmp_path, write, change, message):
    where = write(tmp_path)
    edit(where, change)
    with pytest.raises(MscoreError, match=message):
        batches(**where)


def test_no_environment_is_made_of_a_dataset(tmp_path, write):
    """Minari makes the environment that the metadata name, if a space is missing: that may be any program."""
    where = write(tmp_path / "datasets")
    trap = tmp_path / "trapped"
    spec = {
        "id": "Trap-v0", "entry_point": "subprocess:run", "kwargs": {"args": ["touch", str(trap)]},
        "reward_threshold": None, "nondeterministic": False, "max_episode_steps": None,
        "order_enforce": True, "disable_env_checker": True, "additional_wrappers": [], "vector_entry_point": None,
    }  # fmt: skip
    edit(where, lambda metadata: (metadata.pop("observation_space"), metadata.update(env_spec=json.dumps(spec))))
    with pytest.raises(MscoreError, match="has no observation_space"):
        batches(**where)
    assert not trap.exists()
    with pytest.raises(Exception, match="CompletedProcess"):
        minari.MinariDataset(folder(where))
    assert trap.exists(), "the trap would not have caught anybody"


# --- what its files hold ----------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path, write):
    return write(tmp_path, observation_space=spaces.Dict({"picture": PICTURES, "text": spaces.Text(5)}))


def rewrite(where, name, values, **options):
    with h5py.File(folder(where) / "main_data.hdf5", "a") as file:
        del file[name]
        if values is not None:
            file.create_dataset(name, data=values, **options)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("episode_2", None, "episode 2 is missing"),
        ("episode_2/rewards", None, "episode 2, rewards is missing"),
        ("episode_2/actions", None, "episode 2, actions is missing"),
        ("episode_2/observations/text", None, r"episode 2, observations\.text is missing"),
        ("episode_2/observations", [1, 2], r"episode 2, observations\.picture is missing"),
        ("episode_2/observations/text", [b"a"], r"observations\.text: 1 frames, expected 2"),
        ("episode_2/observations/text", 3, r"observations\.text: no list of frames, expected 2"),
        ("episode_2/observations/text", [1, 2], r"episode 2, observations\.text cannot be read"),
        ("episode_2/observations/text", [b"\xff", b"b"], r"episode 2, observations\.text cannot be read"),
        ("episode_2/actions", [[1, 2]], r"episode 2, actions: frames of shape \(2,\), expected \(\)"),
        ("episode_2/actions", [0.5], "episode 2, actions: values of dtype float64 that do not fit the space's int64"),
        ("episode_2/actions", [b"a"], "episode 2, actions: values of dtype object"),
        ("episode_2/terminations", [300], "episode 2, terminations: values of dtype int64 that do not fit"),
        ("episode_2/observations/picture", [[1, 2, 3]] * 2, "picture: a picture cannot be decoded"),
    ],
)
def test_a_damaged_episode_is_named(dataset, name, values, message):
    rewrite(dataset, name, values)
    with pytest.raises(MscoreError, match=rf"main_data\.hdf5: .*{message}"):
        batches(**dataset)


def test_a_picture_of_another_size_is_named(tmp_path, write, dataset):
    other = write(tmp_path, "test/other-v0", spaces.Dict({"picture": spaces.Box(0, 255, (40, 44, 3), np.uint8)}))
    with h5py.File(folder(other) / "main_data.hdf5") as file:
        stored = file["episode_2/observations/picture"][()]
    rewrite(dataset, "episode_2/observations/picture", stored, dtype=h5py.vlen_dtype(np.uint8))
    with pytest.raises(MscoreError, match=r"picture of shape \(40, 44, 3\), expected \(40, 40, 3\)"):
        batches(**dataset)


def test_symbols_that_minari_spoilt_are_refused(tmp_path, write, dataset):
    where = write(tmp_path, "test/symbols-v0", spaces.Dict({"grid": spaces.Box(0, 255, (7, 7, 3), np.uint8)}))
    with h5py.File(folder(dataset) / "main_data.hdf5") as file:
        stored = file["episode_2/observations/picture"][()]
    rewrite(where, "episode_2/observations/grid", stored, dtype=h5py.vlen_dtype(np.uint8))
    with pytest.raises(
        MscoreError, match=r"observations\.grid: frames of \(7, 7, 3\) stored as JPEG, as Minari 0\.5\.3"
    ):
        batches(**where)


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_a_truncated_file(dataset, kept):
    path = folder(dataset) / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(MscoreError, match=r"main_data\.hdf5 cannot be read .*damaged"):
        batches(**dataset)


def test_a_missing_file(dataset):
    (folder(dataset) / "main_data.hdf5").unlink()
    with pytest.raises(MscoreError, match=r"main_data\.hdf5 cannot be read"):
        batches(**dataset)


@pytest.mark.parametrize("data_format", ["arrow", "parquet"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "removed", "doubled", "scrambled"])
def test_a_damaged_file_of_another_format(tmp_path, write, data_format, damage):
    where = write(tmp_path, observation_space=spaces.Text(5), data_format=data_format)
    path = folder(where) / "2" / f"part-0.{data_format}"
    content = path.read_bytes()
    if damage == "doubled":
        path.with_name(f"part-1.{data_format}").write_bytes(content)
    path.unlink()
    if damage != "removed":
        kept = {"truncated": len(content) // 2, "emptied": 0}.get(damage, len(content))
        content = content[:kept]
        if damage == "scrambled":
            content = content[:8] + bytes(byte ^ 0x55 for byte in content[8:-8]) + content[-8:]
        path.write_bytes(content)
    with pytest.raises(MscoreError, match=r"sampled-v0/data/2"):
        batches(**where)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_scattered_wrong_bytes_are_frames_or_a_message(tmp_path, write, data_format):
    space = spaces.Dict({"picture": PICTURES, "text": spaces.Text(5), "place": spaces.Box(-1, 1, (3,), np.float32)})
    where = write(tmp_path, observation_space=space, lengths=[5, 3], data_format=data_format)
    (path, *_) = [path for path in folder(where).rglob("*") if path.suffix == f".{data_format}"]
    content = path.read_bytes()
    random = np.random.default_rng(0)
    refused = 0
    for wrong in [1, 4, 40] * 20:
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[random.integers(0, len(damaged), wrong)] = random.integers(0, 256, wrong)
        path.write_bytes(damaged.tobytes())
        try:
            batches(**where)
        except MscoreError:
            refused += 1
    assert 10 < refused < 60


def test_columns_that_a_file_lacks(tmp_path, write):
    where = write(tmp_path, observation_space=spaces.Dict({"a": spaces.Discrete(2)}), data_format="arrow")
    text = json.dumps({"type": "Dict", "subspaces": {"b": {"type": "Discrete", "n": 2, "start": 0}}})
    edit(where, lambda metadata: metadata.update(observation_space=text))
    with pytest.raises(MscoreError, match=r"part-0\.arrow, observations\.b is missing"):
        batches(**where)
    wide = write(tmp_path, "test/wide-v0", data_format="arrow")
    text = json.dumps({"type": "MultiBinary", "n": [2, 2]})
    edit(wide, lambda metadata: metadata.update(observation_space=text))
    with pytest.raises(MscoreError, match=r"observations: frames of shape \(3,\), expected \(2, 2\)"):
        batches(**wide)
    text = json.dumps({"type": "Discrete", "n": 2, "start": 0})
    edit(where, lambda metadata: metadata.update(observation_space=text))
    with pytest.raises(MscoreError, match=r"part-0\.arrow, observations: .* that do not fit"):
        batches(**where)


def test_pyarrow_that_is_missing_is_asked_for(golden, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "mscore_plugin_minari.arrow", raising=False)
    with pytest.raises(MscoreError, match=r'arrow files.*pip install "mscore-plugin-minari\[arrow\]"'):
        batches("pendulum/random-v0", golden)


def test_reading_needs_neither_jax_nor_pyarrow(golden):
    code = (
        "import sys; sys.modules.update(jax=None, pyarrow=None)\n"
        "from mscore_plugin_minari import MinariDataModule\n"
        "module = MinariDataModule('minigrid/pictures-v0', sys.argv[1], win_len=4, batch_size=2)\n"
        "module.prepare_data(); module.setup()\n"
        "print(sum(int(batch['mask'].sum()) for batch in module.train_dataloader()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(golden)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
