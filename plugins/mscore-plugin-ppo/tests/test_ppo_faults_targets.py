"""Targets are reached although environments crash, stall and are killed, and actors on Ray too, by what a user runs."""

import os
import signal
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from mscore_plugin_ppo import LocalRolloutManager, MLPPolicy, PPOTrainer

sys.path.insert(0, str(Path(__file__).parent))  # the environments' processes import what they unpickle

from ppo_faulty import Crashing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:environment"),
]

CARTPOLE = gymnasium.make("CartPole-v1")
TARGET, EPISODES = 475, 10
SETTINGS = {
    **{"batch_size_per_gpu": 2, "batches_per_iteration": 4, "epochs_per_iteration": 10, "discount": 0.98},
    **{"use_normalized_vf": True, "learning_rate": 1e-3, "max_env_steps": 100_000},
}


def policy():
    torch.manual_seed(0)
    return MLPPolicy(observation_space=CARTPOLE.observation_space, action_space=CARTPOLE.action_space)


class Target:
    """Plays with the most probable actions, where nothing goes wrong, and stops training at the target."""

    def __init__(self, every=10):
        self.every, self.best = every, 0.0

    def on_start(self, trainer):
        pass

    def on_iteration(self, trainer, metrics):
        if trainer.iteration % self.every == 0:
            self.best = max(self.best, played(trainer.policy))
            trainer.should_stop = self.best >= TARGET and self.had_enough()

    def had_enough(self):
        """Whether what was to go wrong has gone wrong."""
        return True

    def on_end(self, trainer):
        pass

    def close(self):
        pass


def played(policy):
    """Mean return of the greedy policy."""
    envs = gymnasium.make_vec("CartPole-v1", EPISODES, vectorization_mode="sync")
    observation, _ = envs.reset(seed=list(range(1000, 1000 + EPISODES)))
    returns, going = np.zeros(EPISODES), np.ones(EPISODES, dtype=bool)
    while going.any():
        with torch.no_grad():
            latents, _ = policy({"image": torch.from_numpy(observation).unsqueeze(1)}, {})
            action = policy.pi_head.sample(latents["pi_logits"], deterministic=True)[:, 0].numpy()
        observation, reward, terminated, truncated, _ = envs.step(action)
        returns += reward * going
        going &= ~(terminated | truncated)
    envs.close()
    return float(returns.mean())


class Unlucky(Target):
    """Goes on until more than five episodes have crashed and more than five have stalled: both come by chance."""

    def __init__(self, manager):
        super().__init__()
        self.manager = manager

    def had_enough(self):
        health = self.manager.health()
        return health["raised"] > 5 and health["hung"] > 5


class Killer(Target):
    """Kills a process of an environment every few iterations, which is every second or two."""

    def __init__(self, manager, iterations=4):
        super().__init__()
        self.manager, self.iterations, self.kills = manager, iterations, 0

    def on_iteration(self, trainer, metrics):
        super().on_iteration(trainer, metrics)
        if trainer.iteration % self.iterations == 0 and not trainer.should_stop:
            os.kill(self.victim(), signal.SIGKILL)
            self.kills += 1

    def victim(self):
        processes = self.manager.environments.processes
        return processes[self.kills % len(processes)].pid


def trained(crash, stall, monitor, **arguments):
    manager = LocalRolloutManager(
        policy, Crashing(crash, stall), num_envs=8, fragment_length=64, env_processes=True, **arguments
    )
    watch = monitor(manager)
    torch.manual_seed(1)
    try:
        PPOTrainer(manager, policy, Crashing(0.0, 0.0), monitors=[watch], **SETTINGS).fit()
        return watch, manager.health()
    finally:
        manager.close()


def test_cartpoles_that_crash_and_stall_are_solved():
    watch, health = trained(1e-3, 1e-3, monitor=Unlucky, step_timeout=0.5, max_restarts=20)
    assert watch.best >= TARGET
    assert health["raised"] > 5
    assert health["hung"] > 5


def test_cartpole_is_solved_under_a_kill_every_few_iterations():
    watch, health = trained(0.0, 0.0, monitor=Killer)
    assert watch.best >= TARGET
    assert watch.kills >= 2
    assert health["died"] >= watch.kills - 1


class ActorKiller(Killer):
    """Kills an actor on Ray every few iterations."""

    def victim(self):
        import ray  # an extra of the plugin's

        members = self.manager.crew.members
        return ray.get(members[self.kills % len(members)].actor.pid.remote(), timeout=60)


@pytest.mark.filterwarnings("ignore:rollout worker")
def test_cartpole_is_solved_on_ray_although_actors_are_killed_all_the_time():
    pytest.importorskip("ray")
    from mscore_plugin_ppo import RayRolloutManager
    from mscore_plugin_ppo.cluster.connection import connected
    from ppo_on_ray import cartpole

    with connected(None, 2):
        manager = RayRolloutManager(policy, cartpole, num_envs=4, num_rollout_workers=2, fragment_length=64)
        watch = ActorKiller(manager)
        torch.manual_seed(1)
        try:
            PPOTrainer(manager, policy, cartpole, monitors=[watch], **SETTINGS).fit()
            health = manager.health()
        finally:
            manager.close()
    assert watch.best >= TARGET
    assert watch.kills >= 2
    assert health["workers_died"] >= watch.kills - 1
