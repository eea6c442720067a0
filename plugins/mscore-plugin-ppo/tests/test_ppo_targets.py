"""What is learned in how many steps, with margins; ``tests/benchmarks/bench_ppo.py`` measures the targets."""

import json

import gymnasium
import numpy as np
import pytest

import mscore
from mscore.config import load_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class PositionsAlone(gymnasium.ObservationWrapper):
    """CartPole without velocities: how fast positions change must be remembered."""

    def __init__(self, render_mode=None):
        super().__init__(gymnasium.make("CartPole-v1", render_mode=render_mode))
        high = self.env.observation_space.high[[0, 2]]
        self.observation_space = gymnasium.spaces.Box(-high, high, dtype=np.float32)

    def observation(self, observation):
        return observation[[0, 2]]


gymnasium.register("PositionsAlone-v0", entry_point=PositionsAlone)


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSCORE_CACHE", str(tmp_path / "cache"))


def evaluations(recipe, *overrides):
    directory = mscore.run(load_config(recipe, list(overrides))).directory
    last = max(directory.rglob("evaluations.jsonl"))
    return [json.loads(line) for line in last.read_text().splitlines()]


def test_a_pole_is_kept_upright():
    returns = [one["return_mean"] for one in evaluations("cartpole-ppo", "seed=21")]
    assert returns[-1] >= 475
    assert max(returns[1:4]) >= 400
    assert returns[0] < 100


def test_a_pole_is_kept_upright_by_memory_where_its_velocity_is_not_seen():
    pytest.importorskip("mscore_plugin_recurrent")
    played = evaluations(
        "cartpole-ppo",
        "seed=21",
        "environment.id=PositionsAlone-v0",
        "policy=recurrent",
        "trainer.discount=0.99",
        "trainer.batch_size_per_gpu=4",
        "trainer.batches_per_iteration=2",
        "trainer.max_steps=60000",
        "scheduler.total_iters=2360",
    )
    assert max(one["return_mean"] for one in played) >= 350
    assert played[0]["return_mean"] < 100


def test_a_door_is_opened_that_chance_seldom_opens():
    pytest.importorskip("mscore_plugin_minigrid")
    pytest.importorskip("mscore_plugin_recurrent")
    played = evaluations("doorkey-ppo", "seed=21", "trainer.max_steps=100000", "scheduler.total_iters=1568")
    assert max(one["return_mean"] for one in played) >= 0.9
    assert played[0]["return_mean"] < 0.2


def test_a_clone_gets_better_and_is_not_forgotten():
    for package in ("bc", "kl", "minigrid", "recurrent"):
        pytest.importorskip(f"mscore_plugin_{package}")
    played = evaluations("unlock-pickup-ppo", "seed=21", "stages[1].trainer.max_steps=90000")
    clone, *later = [one["success_rate"] for one in played]
    assert 0.4 <= clone <= 0.95
    assert min(later) >= clone - 0.15
    assert later[-1] >= max(0.8, clone)
