"""Recording demonstrations: once, whole, the same whoever records, and never something else's folder."""

import json
import subprocess
import sys

import numpy as np
import pytest
from gymnasium import spaces
from mscore_plugin_minigrid import MiniGridDataModule, MiniGridEnvironment, recording

from mscore import MscoreError

LEVEL = "BabyAI-GoToObj-v0"


def data(root, **arguments):
    return MiniGridDataModule(
        **{"env": LEVEL, "episodes": 10, "win_len": 4, "batch_size": 3, "processes": 2, "root": str(root), **arguments}
    )


def content(root):
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("recorded") / "dataset"
    data(root).prepare_data()
    return root


def test_the_dataset_is_plain_arrays(recorded):
    names = set(content(recorded))
    assert names == {
        "meta.json", "lengths.npy", "seeds.npy", "agent_action.npy",
        "observation.image.npy", "observation.direction.npy", "observation.mission.npy",
    }  # fmt: skip
    arrays = {name: np.load(recorded / name, allow_pickle=False) for name in names if name.endswith(".npy")}
    assert len(arrays["lengths.npy"]) == 10
    assert len(arrays["agent_action.npy"]) == arrays["lengths.npy"].sum()
    assert len(set(arrays["seeds.npy"].tolist())) == 10
    assert arrays["seeds.npy"].max() < 1_000_000
    assert [path.name for path in recorded.parent.iterdir()] == ["dataset"]


def test_it_does_not_depend_on_the_number_of_processes(recorded, tmp_path):
    data(tmp_path / "one", processes=1).prepare_data()
    assert content(tmp_path / "one") == content(recorded)


def test_another_seed_gives_other_levels(recorded, tmp_path):
    data(tmp_path / "other", seed=1).prepare_data()
    one, other = (set(np.load(root / "seeds.npy").tolist()) for root in (recorded, tmp_path / "other"))
    assert one.isdisjoint(other)


def test_what_is_there_is_reused(recorded, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("recorded again")

    monkeypatch.setattr("mscore_plugin_minigrid.demonstrations.play_in_processes", refuse)
    data(recorded, win_len=9).prepare_data()


def test_another_dataset_is_not_overwritten(recorded):
    before = content(recorded)
    with pytest.raises(MscoreError, match="seed 0 instead of 3"):
        data(recorded, seed=3).prepare_data()
    with pytest.raises(MscoreError, match="env 'BabyAI-GoToObj-v0' instead of 'BabyAI-GoToLocal-v0'"):
        data(recorded, env="BabyAI-GoToLocal-v0").prepare_data()
    assert content(recorded) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(MscoreError, match="not a dataset"):
        data(tmp_path).prepare_data()
    (tmp_path / "meta.json").write_text("[1]")
    with pytest.raises(MscoreError, match=r"meta\.json cannot be read"):
        data(tmp_path).prepare_data()


def test_an_empty_folder_is_filled(recorded, tmp_path):
    data(tmp_path).prepare_data()
    assert content(tmp_path) == content(recorded)


def test_two_processes_at_once_leave_one_dataset(recorded, tmp_path):
    code = (
        "import sys; from mscore_plugin_minigrid import MiniGridDataModule as Data\n"
        f"Data(env={LEVEL!r}, episodes=10, processes=1, root=sys.argv[1]).prepare_data()"
    )
    root = tmp_path / "dataset"
    both = [subprocess.Popen([sys.executable, "-c", code, str(root)], stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    assert content(root) == content(recorded)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_the_default_folder_is_named_by_its_content(tmp_path, monkeypatch):
    monkeypatch.setenv("MSCORE_CACHE", str(tmp_path))
    roots = {
        MiniGridDataModule(**arguments).root
        for arguments in ({}, {"seed": 1}, {"episodes": 3}, {"env": LEVEL}, {"kwargs": {"max_steps": 9}})
    }
    assert len(roots) == 5
    assert all(tmp_path in root.parents for root in roots)


def test_only_solved_levels_are_kept(tmp_path):
    # With so few steps some of the levels cannot be solved in time.
    dataset = data(tmp_path / "short", episodes=12, kwargs={"max_steps": 7})
    dataset.prepare_data()
    lengths = np.load(tmp_path / "short" / "lengths.npy")
    assert len(lengths) == 12
    assert lengths.max() <= 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kwargs": {"max_steps": 1}}, r"solved \d+ of \d+ levels"),
        ({"env": "MiniGrid-Empty-5x5-v0"}, "MiniGrid-Empty-5x5-v0"),
        ({"env": "BabyAI-Typo-v0"}, "BabyAI-Typo-v0"),
    ],
)
def test_an_expert_that_cannot_play_leaves_nothing(tmp_path, arguments, message):
    with pytest.raises(MscoreError, match=message):
        data(tmp_path / "dataset", **arguments).prepare_data()
    assert not list(tmp_path.iterdir())


def test_a_recording_process_that_dies_is_reported(tmp_path, monkeypatch):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(recording.sys, "executable", str(broken))
    with pytest.raises(MscoreError, match="exit code 3: out of luck"):
        data(tmp_path / "dataset").prepare_data()
    assert not (tmp_path / "dataset").exists()


def test_the_spaces_are_the_environments(recorded):
    dataset = data(recorded)
    assert dataset.action_space == spaces.Discrete(7)
    assert dataset.observation_space["image"] == MiniGridEnvironment(LEVEL).make().observation_space["image"]
    assert isinstance(dataset.observation_space["mission"], spaces.Text)
    assert json.loads((recorded / "meta.json").read_text())["recorded"]["episodes"] == 10


def test_batches_hold_what_happens_when_the_actions_are_played_again(recorded):
    dataset = data(recorded, split_ratio=1.0)
    dataset.prepare_data()
    dataset.setup()
    env = MiniGridEnvironment(LEVEL).make()
    actions = {}
    for batch in dataset.train_dataloader():
        for row, name in enumerate(batch["episode"]):
            for step in batch["mask"][row].nonzero().flatten().tolist():
                done = actions.setdefault(name, [])
                assert batch["timestamp"][row, step] == len(done)
                assert batch["first"][row, step] == (not done)
                observation, _ = env.reset(seed=int(name.removeprefix("seed-")))
                for action in done:
                    observation, *_ = env.step(action)
                np.testing.assert_array_equal(batch["image"][row, step].numpy(), observation["image"])
                assert batch["direction"][row, step] == observation["direction"]
                assert batch["mission"][row][step] == observation["mission"]
                done.append(int(batch["agent_action"][row, step]))
    assert sorted(map(len, actions.values())) == sorted(np.load(recorded / "lengths.npy").tolist())


def test_held_out_episodes_are_never_trained_on(recorded):
    dataset = data(recorded, split_ratio=0.7)
    dataset.setup()
    assert len(dataset.train_set.episodes) == 7
    assert len(dataset.val_set.episodes) == 3
    assert set(dataset.train_set.episodes).isdisjoint(dataset.val_set.episodes)
    held_out = {name for batch in dataset.val_dataloader() for name in batch["episode"]} - {""}
    assert held_out == set(dataset.val_set.episodes)


def test_nothing_held_out_gives_no_validation(recorded):
    dataset = data(recorded, split_ratio=1.0)
    dataset.setup()
    assert dataset.val_dataloader() == []
