"""The recipes build, hand on from stage to stage, and train for a moment."""

import inspect
import json
import math

import pytest
from mscore_plugin_ppo.adapter import PPO

import mscore
from mscore.runs.rehearsal import rehearse
from mscore.runs.training import check

SMALL = [
    *("stages[0].data.episodes=4", "stages[0].data.batch_size=2", "stages[0].data.win_len=4"),
    "stages[0].trainer.max_steps=2",
]
ONLINE = ["num_envs=2", "fragment_length=8", "batch_size_per_gpu=1", "batches_per_iteration=2", "max_steps=64"]


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    for package in ("bc", "kl", "minigrid", "recurrent"):
        pytest.importorskip(f"mscore_plugin_{package}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSCORE_CACHE", str(tmp_path / "cache"))


def small(recipe):
    from mscore.config import load_config

    if recipe == "unlock-pickup-ppo":
        overrides = [*SMALL, *(f"stages[1].trainer.{one}" for one in ONLINE)]
        overrides += ["stages[0].evaluation.episodes=1", "stages[1].evaluation.episodes=1"]
    else:
        overrides = ["evaluation.episodes=1", *(f"trainer.{one}" for one in ONLINE)]
    smaller = [] if recipe == "cartpole-ppo" else ["policy.channels=8"]
    return load_config(recipe, [*overrides, "policy.hiddim=8", *smaller])


@pytest.mark.parametrize("recipe", ["cartpole-ppo", "doorkey-ppo", "unlock-pickup-scratch"])
def test_a_recipe_can_be_rehearsed_and_run(recipe):
    config = small(recipe)
    assert len(list(rehearse(check(config)))) == 1
    assert json.loads((mscore.run(config).directory / "report.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("recipe", ["cartpole-ppo", "doorkey-ppo"])
def test_the_learning_rate_ends_with_the_steps(recipe):
    from mscore.config import load_config

    config = load_config(recipe, [])
    trainer = inspect.signature(PPO).bind(**config.trainer.parameters)
    trainer.apply_defaults()
    played = trainer.arguments
    steps = played["fragment_length"] * played["batch_size_per_gpu"] * played["batches_per_iteration"]
    iterations = math.ceil(played["max_steps"] / steps)
    updates = iterations * played["epochs_per_iteration"] * played["batches_per_iteration"]
    assert config.scheduler.parameters["total_iters"] == updates


def test_the_recipe_hands_the_clone_on():
    config = small("unlock-pickup-ppo")
    assert [name for name, _ in rehearse(check(config))] == ["clone", "ppo"]
    directory = mscore.run(config).directory
    assert json.loads((directory / "report.json").read_text())["status"] == "finished"
    clone, online = (
        json.loads((directory / "stages" / name / "report.json").read_text()) for name in ("1-clone", "2-ppo")
    )
    # The same policy on the same episodes: what was cloned is what is trained on.
    assert online["evaluations"][0]["return_mean"] == clone["evaluations"][-1]["return_mean"]
    first = next(metric for metric in online["metrics"] if metric["name"] == "train/reference-kl/kl_weight")
    assert first["first"] == pytest.approx(0.2)
    assert first["last"] < 0.2


def test_the_ablation_of_the_page_is_a_config():
    from mscore.config import check_parameters, load_config

    config = load_config("unlock-pickup-ppo", ["name=without-kl", "stages[1].objectives.reference-kl.weight=0"])
    check_parameters(config)
    assert config.name == "without-kl"
