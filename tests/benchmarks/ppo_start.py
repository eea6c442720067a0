"""From the start of a run to the end of PPO's first iteration, for ``bench_ppo.py``: a process of its own each time."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

MOST_SECONDS = 4.0
CONFIGS = {
    "CartPole-v1": {
        "name": "cartpole",
        "policy": {"use": "mlp"},
        "environment": {"use": "gymnasium", "id": "CartPole-v1"},
        "trainer": {"use": "ppo", "max_steps": 1},
    },
    "BabyAI-UnlockPickup-v0": {
        "name": "unlock-pickup",
        "policy": {"use": "recurrent"},
        "environment": {"use": "minigrid", "env": "BabyAI-UnlockPickup-v0"},
        "trainer": {"use": "ppo", "max_steps": 1, "num_envs": 16, "fragment_length": 64, "batch_size_per_gpu": 4},
    },
}


def first_iteration(name):
    """Seconds that a run of one iteration takes: wall time, and this process's CPU time.

    Everything is counted: the run's directory, its checks and report, and one checkpoint.
    """
    import mscore_plugin_ppo.adapter  # noqa: F401

    import mscore

    wall, cpu = time.perf_counter(), time.process_time()
    mscore.run(CONFIGS[name])
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(rounds):
    """Print the medians."""
    for name in CONFIGS:
        times = []
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                said = subprocess.run(
                    [sys.executable, __file__, name],
                    cwd=folder,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    check=True,
                ).stdout
            times.append([float(one) for one in said.split()[-2:]])
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"start to the first iteration, {name}: {wall:.1f} s, {cpu:.1f} CPU-s (at most {MOST_SECONDS} s)",
            flush=True,
        )


if __name__ == "__main__":
    print(*first_iteration(sys.argv[1]))
