"""Writes the golden files of this folder: run it by the interpreter that ``tests/benchmarks/ppo_peer.py`` prints."""

from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger

FOLDER = Path(__file__).parent
EPOCHS = 3


def advantages():
    """Random steps, and what its buffer makes of them."""
    length, rows = 32, 6
    random = np.random.default_rng(0)
    buffer = RolloutBuffer(length, spaces.Box(-1, 1, (1,)), spaces.Discrete(2), "cpu", 0.9, 0.98, rows)
    buffer.rewards = random.standard_normal((length, rows), dtype=np.float32)
    buffer.values = random.standard_normal((length, rows), dtype=np.float32)
    ended = random.random((length, rows)) < 0.1
    buffer.episode_starts[1:] = ended[:-1]
    next_values = random.standard_normal(rows, dtype=np.float32)
    buffer.compute_returns_and_advantage(torch.from_numpy(next_values), ended[-1])
    return {
        "rewards": buffer.rewards,
        "values": buffer.values,
        "ended": ended,
        "next_values": next_values,
        "advantages": buffer.advantages,
        "returns": buffer.returns,
    }


def update():
    """A rollout of CartPole, the weights before, and those after three epochs on all of it at once."""
    steps, rows = 16, 4
    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", rows, seed=0),
        learning_rate=3e-2,
        n_steps=steps,
        batch_size=steps * rows,
        n_epochs=EPOCHS,
        gamma=0.98,
        gae_lambda=0.9,
        clip_range=0.1,
        ent_coef=0.01,
        vf_coef=0.5,
        max_grad_norm=0.5,
        policy_kwargs={"net_arch": [16, 16]},
        seed=0,
        device="cpu",
    )
    model.set_logger(Logger(None, []))
    _, callback = model._setup_learn(steps * rows)
    callback.on_training_start({}, {})
    model.collect_rollouts(model.env, callback, model.rollout_buffer, steps)
    before = {f"before {name}": tensor.clone().numpy() for name, tensor in model.policy.state_dict().items()}
    buffer = model.rollout_buffer
    rollout = {
        "observations": buffer.observations,
        "actions": buffer.actions[..., 0],
        "log_probs": buffer.log_probs,
        "values": buffer.values,
        "advantages": buffer.advantages,
        "returns": buffer.returns,
    }
    rollout = {name: array.copy() for name, array in rollout.items()}
    model.train()
    after = {f"after {name}": tensor.numpy() for name, tensor in model.policy.state_dict().items()}
    return {**rollout, **before, **after}


if __name__ == "__main__":
    np.savez(FOLDER / "gae_sb3.npz", **advantages())
    np.savez(FOLDER / "update_sb3.npz", **update())
