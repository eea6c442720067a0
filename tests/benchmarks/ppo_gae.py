"""Generalized advantage estimation beside Stable-Baselines3 and TorchRL, for ``bench_ppo.py``.

The peers' numbers come from their own interpreter (``ppo_peer.py``), which runs this file.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LENGTH, ROWS = 128, 256
DISCOUNT, LAMBDA = 0.99, 0.95
MOST_MILLISECONDS = 0.5
MOST_DIFFERENCE = 1e-5


def data():
    """Rewards, values and ends of random steps, and the values after the last; no step is truncated."""
    random = np.random.default_rng(0)
    return {
        "rewards": random.standard_normal((LENGTH, ROWS), dtype=np.float32),
        "values": random.standard_normal((LENGTH, ROWS), dtype=np.float32),
        "ended": random.random((LENGTH, ROWS)) < 0.02,
        "next_values": random.standard_normal(ROWS, dtype=np.float32),
    }


def milliseconds(estimate):
    """Least CPU time of many calls."""
    least = float("inf")
    for _ in range(50):
        began = time.process_time()
        estimate()
        least = min(least, time.process_time() - began)
    return 1e3 * least


def stable_baselines3(steps):
    """Its advantages, and its time."""
    import torch
    from gymnasium import spaces
    from stable_baselines3.common.buffers import RolloutBuffer

    buffer = RolloutBuffer(LENGTH, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), "cpu", LAMBDA, DISCOUNT, ROWS)
    buffer.rewards, buffer.values = steps["rewards"], steps["values"]
    buffer.episode_starts[1:] = steps["ended"][:-1]
    last = torch.from_numpy(steps["next_values"])

    def estimate():
        buffer.compute_returns_and_advantage(last, steps["ended"][-1])

    return milliseconds(estimate), buffer.advantages


def torchrl(steps):
    """Its advantages, and its time."""
    import torch
    from torchrl.objectives.value.functional import vec_generalized_advantage_estimate

    values = torch.from_numpy(np.concatenate([steps["values"], steps["next_values"][None]]))
    value, following, reward, done = (
        one.T.unsqueeze(-1).contiguous()
        for one in (values[:-1], values[1:], torch.from_numpy(steps["rewards"]), torch.from_numpy(steps["ended"]))
    )

    def estimate():
        return vec_generalized_advantage_estimate(DISCOUNT, LAMBDA, value, following, reward, done, done)

    return milliseconds(estimate), estimate()[0].squeeze(-1).T.numpy()


def ours(steps):
    """Our advantages, and our time."""
    from mscore_plugin_ppo.rollouts.advantages import GAE, Steps

    none = np.zeros((LENGTH, ROWS), dtype=np.bool_)
    known = Steps(
        rewards=steps["rewards"],
        values=steps["values"],
        terminated=steps["ended"],
        truncated=none,
        final_values=np.zeros_like(steps["values"]),
        valid=~none,
        next_values=steps["next_values"],
    )
    gae = GAE(DISCOUNT, LAMBDA)
    return milliseconds(lambda: gae.estimate(known)), gae.estimate(known)[0]


def compare():
    """Print times and differences."""
    from ppo_peer import peer_python

    time_taken, advantages = ours(data())
    print(f"GAE, T{LENGTH} x B{ROWS}: {time_taken:.2f} ms (at most {MOST_MILLISECONDS})", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "peers.npz"
        subprocess.run([peer_python(), __file__, file], check=True)
        found = np.load(file)
        for name in ("Stable-Baselines3", "TorchRL"):
            difference = np.abs(found[name] - advantages).max()
            print(
                f"  {name} {float(found[name + ' ms']):.2f} ms; greatest difference {difference:.1e} "
                f"(at most {MOST_DIFFERENCE:.0e})",
                flush=True,
            )


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    arrays = {}
    for name, estimate in (("Stable-Baselines3", stable_baselines3), ("TorchRL", torchrl)):
        arrays[f"{name} ms"], arrays[name] = estimate(data())
    np.savez(sys.argv[1], **arrays)
