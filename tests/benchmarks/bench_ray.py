"""PPO on Ray beside PPO in one process: environment steps per second, and the time until the first iteration is done.

Run ``python tests/benchmarks/bench_ray.py``. CartPole-v1 with the hyper-parameters of Stable-Baselines3's zoo, one
thread per process. ``local`` acts and learns in one process, ``actor`` acts in one actor on Ray, ``actor, ahead``
does so one iteration ahead (asynchronous), ``train`` also learns in a process of Ray Train's. Each runs in a
process of its own, in turn, several times; medians count. Time is wall time: on Ray several processes work. The first
iteration's counts from ``fit()``, after all imports but Ray's, and includes the start of Ray.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import gymnasium
import torch
from mscore_plugin_ppo import MLPPolicy, PPOTrainer

KINDS = {
    "local": {},
    "actor": {"num_rollout_workers": 1},
    "actor, ahead": {"num_rollout_workers": 1, "asynchronous": True},
    "train": {"num_rollout_workers": 1, "num_workers": 1},
}
ZOO = {"num_envs": 8, "fragment_length": 32, "batch_size_per_gpu": 8, "batches_per_iteration": 1,
       "epochs_per_iteration": 20, "discount": 0.98, "gae_lambda": 0.8, "learning_rate": 1e-3}  # fmt: skip
STEPS = 30_000
LEAST_SPEED = 0.5
MOST_SECONDS = {"local": 4.0, "actor": 20.0, "actor, ahead": 20.0, "train": 20.0}


def cartpole():
    """The environment."""
    return gymnasium.make("CartPole-v1")


def policy():
    """The policy that acts and is trained."""
    env = cartpole()
    return MLPPolicy(observation_space=env.observation_space, action_space=env.action_space)


class Timed(PPOTrainer):
    """Returns when its first iteration was done, and the speed from step 2048 on."""

    def train(self):
        """Train, and look at the clock."""
        clock = Clock()
        self.monitors.append(clock)
        super().train()
        return clock.first, (self.env_steps - clock.began[1]) / (time.perf_counter() - clock.began[0])


class Clock:
    """Looks at the clock after iterations."""

    first = began = None

    def on_start(self, trainer):
        """Nothing has happened yet."""

    def on_iteration(self, trainer, metrics):
        """Note the first iteration, and the first after step 2048."""
        self.first = self.first or time.time()
        if trainer.env_steps >= 2048 and self.began is None:
            self.began = time.perf_counter(), trainer.env_steps

    def on_end(self, trainer):
        """Nothing is left."""

    def close(self):
        """Nothing is open."""


def measure(kind):
    """Seconds until the first iteration was done, and environment steps per second."""
    torch.set_num_threads(1)
    began = time.time()
    first, speed = Timed(None, policy, cartpole, max_env_steps=STEPS, **ZOO, **KINDS[kind]).fit()
    return {"first": first - began, "speed": speed}


def main():
    """Run all kinds in turn, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=list(KINDS))
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    found = {kind: [] for kind in KINDS}
    for _ in range(given.rounds):
        for kind in KINDS:
            command = [sys.executable, __file__, "--one", kind]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found[kind].append(json.loads(done.stdout.splitlines()[-1]))
    for kind, rows in found.items():
        speed = statistics.median(row["speed"] for row in rows)
        ratio = statistics.median(row["speed"] / base["speed"] for row, base in zip(rows, found["local"], strict=True))
        first = statistics.median(row["first"] for row in rows)
        print(
            f"{kind:12} {speed:6.0f} environment steps per second, {ratio:.2f} x local (target {LEAST_SPEED} x); "
            f"first iteration after {first:.1f} s (target {MOST_SECONDS[kind]:g} s)"
        )


if __name__ == "__main__":
    main()
