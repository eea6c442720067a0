"""Training goes on and reaches its target while environments are killed, and a slow or failing one is named."""

import os
import signal
import sys
from pathlib import Path

import gymnasium
import pytest
import torch
from mscore_plugin_ppo import MLPPolicy, PPOTrainer
from mscore_plugin_ppo.rollouts.manager import LocalRolloutManager

sys.path.insert(0, str(Path(__file__).parent))  # the environments' processes import what they unpickle

from ppo_faulty import Crashing

CARTPOLE = gymnasium.make("CartPole-v1")


def policy():
    return MLPPolicy(observation_space=CARTPOLE.observation_space, action_space=CARTPOLE.action_space)


class Killer:
    """Kills an environment's process after every few iterations, and keeps the best return."""

    def __init__(self, manager, every):
        self.manager, self.every, self.kills, self.best = manager, every, 0, 0.0

    def on_start(self, trainer):
        pass

    def on_iteration(self, trainer, metrics):
        self.best = max(self.best, metrics.get("rollout/return", 0.0))
        if trainer.iteration % self.every == 0:
            processes = self.manager.environments.processes
            os.kill(processes[self.kills % len(processes)].pid, signal.SIGKILL)
            self.kills += 1

    def on_end(self, trainer):
        pass

    def close(self):
        pass


@pytest.mark.filterwarnings("ignore:environment")
def test_a_run_learns_although_its_environments_are_killed_one_after_the_other():
    torch.manual_seed(0)
    manager = LocalRolloutManager(policy, Crashing(0.0, 0.0), num_envs=4, fragment_length=32, env_processes=True)
    killer = Killer(manager, every=15)
    settings = {"batch_size_per_gpu": 4, "batches_per_iteration": 1, "epochs_per_iteration": 10, "discount": 0.98}
    trainer = PPOTrainer(
        manager, policy, Crashing(0.0, 0.0), num_iterations=60, learning_rate=3e-3, monitors=[killer], **settings
    )
    trainer.fit()
    manager.close()
    assert killer.kills == 4
    assert manager.health()["died"] >= 3
    assert trainer.env_steps < 60 * 4 * 32  # what was not stepped does not count
    assert killer.best > 40


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:environment")
def test_cartpoles_that_crash_and_stall_now_and_then_are_learned_all_the_same():
    torch.manual_seed(0)
    manager = LocalRolloutManager(
        policy, Crashing(1e-3, 3e-4), num_envs=8, fragment_length=64, env_processes=True, step_timeout=2.0
    )
    killer = Killer(manager, every=10**9)
    settings = {"epochs_per_iteration": 10, "discount": 0.98, "use_normalized_vf": True, "learning_rate": 1e-3}
    PPOTrainer(manager, policy, Crashing(0.0, 0.0), max_env_steps=40_000, monitors=[killer], **settings).fit()
    manager.close()
    health = manager.health()
    assert health["raised"] > 10
    assert health["hung"] > 3
    assert killer.best > 150
