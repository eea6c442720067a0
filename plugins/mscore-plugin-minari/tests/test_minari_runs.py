"""Real runs of the recipe: every kind of dataset trains, and a run resumes at the exact batch."""

import csv
import subprocess
import sys

import pytest
import torch

import mscore


def recipe(golden, dataset_id):
    return {
        "data.dataset_id": dataset_id,
        "data.root": golden,
        "data.win_len": 4,
        "data.batch_size": 3,
        "policy.hiddim": 16,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": False,
        "log_freq": 1,
    }


def overrides(settings, **more):
    return [f"{path}={value}" for path, value in {**settings, **more}.items()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder; what a run sets is undone after the test."""
    monkeypatch.setenv("MSCORE_RUN_DIR", "")
    monkeypatch.setenv("MSCORE_PLUGIN_FILES", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def losses(directory):
    rows = csv.DictReader((directory / "metrics.csv").open())
    return {int(row["step"]): row["train/loss"] for row in rows if row["train/loss"]}


@pytest.mark.parametrize("dataset_id", ["cartpole/random-v0", "pendulum/random-v0", "minigrid/pictures-v0"])
def test_the_recipe_trains_on_any_dataset(golden, folder, dataset_id):
    settings = {**recipe(golden, dataset_id), "trainer.max_epochs": 8, "data.split_ratio": 0.7}
    directory = mscore.run("minari-bc", overrides(settings)).directory
    learned = list(losses(directory).values())
    assert float(learned[-1]) < float(learned[0])
    assert "val/loss" in (directory / "metrics.csv").read_text()
    policy = mscore.load_policy(directory)
    action, _ = policy.get_action({"image": policy.observation_space.sample()}, None, input_shape="*")
    assert mscore.heads.spaces.to_environment(action, policy.action_space) in policy.action_space


def test_a_run_of_the_command_line_resumes_at_the_exact_batch(golden, folder):
    settings = recipe(golden, "minigrid/bot-v0")
    whole = mscore.run("minari-bc", overrides(settings, **{"trainer.max_steps": 12, "name": "whole"})).directory
    run = [sys.executable, "-m", "mscore", "run"]
    begun = [*run, "minari-bc", *overrides(settings, **{"trainer.max_steps": 7, "name": "parts"})]
    resumed = [*run, "--resume", "runs/parts/latest", "trainer.max_steps=12"]
    for command in (begun, resumed):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    parts = (folder / "runs" / "parts" / "latest").resolve()
    assert list(losses(parts)) == list(range(1, 13))
    assert losses(parts) == losses(whole)
    weights = [torch.load(one / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for one in (whole, parts)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_recipe_names_a_dataset_and_asks_no_server_for_it(folder, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    with pytest.raises(mscore.MscoreError, match=r"no dataset 'D4RL/door/human-v2' in .* set `download: true`"):
        mscore.run("minari-bc")
