"""A real run of PPO on Crafter, as the README has it."""

import json

import pytest

import mscore
from mscore import ConfigError

CONFIG = {
    "name": "crafter",
    "policy": {"use": "recurrent", "hiddim": 16, "channels": 8},
    "environment": {"use": "crafter", "goals": ["collect_drink"], "length": 40, "area": [24, 24]},
    "trainer": {
        "use": "ppo",
        "max_steps": 128,
        "num_envs": 2,
        "fragment_length": 16,
        "batch_size_per_gpu": 1,
        "batches_per_iteration": 2,
        "epochs_per_iteration": 1,
    },
    "evaluation": {"episodes": 2},
}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    for package in ("ppo", "recurrent"):
        pytest.importorskip(f"mscore_plugin_{package}")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("processes", [False, True])
def test_ppo_trains_in_it(processes):
    directory = mscore.run({**CONFIG, "trainer": {**CONFIG["trainer"], "env_processes": processes}}).directory
    report = json.loads((directory / "report.json").read_text())
    assert report["status"] == "finished"
    assert {"rollout/return", "rollout/success", "train/loss"} <= {metric["name"] for metric in report["metrics"]}
    assert report["evaluations"][-1]["success_rate"] is not None


def test_a_goal_that_does_not_exist_is_said_before_anything_is_built():
    with pytest.raises(ConfigError, match=r"environment\.goals"):
        mscore.run({**CONFIG, "environment": {"use": "crafter", "goals": ["collect_gold"]}})
