"""What PPO learns in how many steps, for ``bench_ppo.py``: runs of several seeds, and what their evaluations gave."""

import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

import gymnasium
import numpy as np

import mscore
from mscore.config import load_config


class WithoutVelocities(gymnasium.ObservationWrapper):
    """CartPole that shows positions alone: how fast they change must be remembered."""

    def __init__(self, render_mode=None):
        super().__init__(gymnasium.make("CartPole-v1", render_mode=render_mode))
        high = self.env.observation_space.high[[0, 2]]
        self.observation_space = gymnasium.spaces.Box(-high, high, dtype=np.float32)

    def observation(self, observation):
        return observation[[0, 2]]


gymnasium.register("CartPoleWithoutVelocities-v0", entry_point=WithoutVelocities)

CASES = {
    "cartpole": ("cartpole-ppo", ["evaluation.every_n_steps=2000"], 5),
    "memory": (
        "cartpole-ppo",
        [
            "name=cartpole-memory-ppo",
            "environment.id=CartPoleWithoutVelocities-v0",
            "policy={use: recurrent, hiddim: 64}",
            "trainer.gae_lambda=0.9",
            "trainer.fragment_length=32",
            "trainer.batch_size_per_gpu=8",
            "trainer.batches_per_iteration=1",
            "trainer.epochs_per_iteration=20",
            "scheduler.total_iters=7820",
        ],
        3,
    ),
    "doorkey": ("doorkey-ppo", [], 3),
}
"""Recipe, overrides and number of seeds."""
TITLES = {
    "cartpole": "CartPole-v1, 100k steps",
    "memory": "CartPole without velocities, 100k steps",
    "doorkey": "MiniGrid-DoorKey-5x5, 200k steps",
}
AT_LEAST = {"cartpole": 500, "memory": 475, "doorkey": 0.93}
SOON = {"cartpole": (475, 20_000, 4)}
"""A return that must be reached within so many steps by so many seeds."""


def train(case, seed):
    """Run a case; its evaluations as (step, mean return), and the CPU-seconds, evaluations included."""
    recipe, overrides, _ = CASES[case]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        directory = mscore.run(load_config(recipe, [*overrides, f"seed={seed}"])).directory
        rows = [json.loads(line) for line in Path(directory, "evaluations.jsonl").read_text().splitlines()]
    return [(row["step"], row["return_mean"]) for row in rows], time.process_time() - began


def measure(cases=None, seeds=None):
    """Print the returns of the evaluations.

    Args:
        cases: which; None for all.
        seeds: which; None for as many as the case asks for, from 0.
    """
    for case in cases or CASES:
        chosen = list(range(CASES[case][2]) if seeds is None else seeds)
        reached, early = 0, 0
        for seed in chosen:
            curve, seconds = train(case, seed)
            reached += curve[-1][1] >= AT_LEAST[case]
            line = f"  seed {seed}: {curve[-1][1]:.4g} at the end, {seconds:.0f} CPU-s;"
            if case in SOON:
                enough, limit, _ = SOON[case]
                first = next((step for step, found in curve if found >= enough), None)
                early += first is not None and first <= limit
                line += f" {enough} at step {first};"
            shown = curve[:: max(1, len(curve) // 10)]
            print(line, " ".join(f"{step // 1000}k:{found:.3g}" for step, found in shown), flush=True)
        line = f"{TITLES[case]}: at least {AT_LEAST[case]} at the end in {reached} of {len(chosen)} seeds"
        if case in SOON:
            enough, limit, wanted = SOON[case]
            line += f"; {enough} by step {limit} in {early} (at least {wanted} of {CASES[case][2]})"
        print(line, flush=True)
