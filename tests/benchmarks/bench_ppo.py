"""PPO: environment steps per CPU-second beside Stable-Baselines3, and what is learned in how many steps.

Run ``python tests/benchmarks/bench_ppo.py speed --sb3 PYTHON``, where PYTHON is the interpreter of an
environment with ``stable-baselines3`` and ``minigrid``: its versions of the libraries would disturb ours. The
two run one after the other, in processes of one thread, several times; the median ratio counts. Steps
before 2048 are left out on both sides, so that imports and first calls do not count.

``python tests/benchmarks/bench_ppo.py learn [cartpole] [masked] [doorkey]`` trains by `mscore run` configs
and prints what evaluations gave.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import torch

import mscore

SB3 = """
import sys, time, gymnasium as gym, torch
torch.set_num_threads(1)
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

class Clock(BaseCallback):
    began = None
    def _on_rollout_start(self):
        if self.num_timesteps >= 2048 and self.began is None:
            self.began = time.process_time(), self.num_timesteps
    def _on_step(self):
        return True

class Convolutions(BaseFeaturesExtractor):
    def __init__(self, space, features_dim=128):
        super().__init__(space, features_dim)
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3), torch.nn.ReLU(),
            torch.nn.Flatten(), torch.nn.Linear(576, features_dim), torch.nn.ReLU())
    def forward(self, seen):
        return self.net(seen)

kind, steps = sys.argv[1], int(sys.argv[2])
if kind == "zoo":
    model = PPO("MlpPolicy", make_vec_env("CartPole-v1", 8), n_steps=32, batch_size=256, n_epochs=20, gamma=0.98,
                gae_lambda=0.8, learning_rate=lambda left: left * 1e-3, clip_range=0.2, device="cpu")
elif kind == "default":
    model = PPO("MlpPolicy", make_vec_env("CartPole-v1", 1), device="cpu")
else:
    import minigrid
    from minigrid.wrappers import ImgObsWrapper
    model = PPO("CnnPolicy", make_vec_env("MiniGrid-DoorKey-5x5-v0", 8, wrapper_class=ImgObsWrapper), n_steps=128,
                batch_size=256, n_epochs=4, device="cpu", policy_kwargs=dict(
                    features_extractor_class=Convolutions, net_arch=[], normalize_images=False))
clock = Clock()
model.learn(steps, callback=clock)
print((model.num_timesteps - clock.began[1]) / (time.process_time() - clock.began[0]))
"""

SPEED = {
    "zoo": {"num_envs": 8, "fragment_length": 32, "batch_size_per_gpu": 8, "batches_per_iteration": 1,
            "epochs_per_iteration": 20, "discount": 0.98, "gae_lambda": 0.8, "learning_rate": 1e-3},
    "default": {"num_envs": 1, "fragment_length": 64, "batch_size_per_gpu": 1, "batches_per_iteration": 32,
                "epochs_per_iteration": 10, "learning_rate": 3e-4},
    "doorkey": {"num_envs": 8, "fragment_length": 128, "batch_size_per_gpu": 2, "batches_per_iteration": 4,
                "epochs_per_iteration": 4, "learning_rate": 3e-4},
}  # fmt: skip
TARGETS = {"zoo": 1.4, "default": 1.9, "doorkey": 1.0}
STEPS = {"zoo": 30_000, "default": 16_384, "doorkey": 12_288}


class Clock:
    """Measures training from the step 2048 on."""

    began = None

    def on_start(self, trainer):
        pass

    def on_iteration(self, trainer, metrics):
        if trainer.env_steps >= 2048 and self.began is None:
            self.began = time.process_time(), trainer.env_steps

    def on_end(self, trainer):
        self.speed = (trainer.env_steps - self.began[1]) / (time.process_time() - self.began[0])

    def close(self):
        pass


class Convolutional(mscore.MinePolicy):
    """The network that the other side trains on MiniGrid's images."""

    def __init__(self, action_space):
        super().__init__(128, action_space)
        layers = torch.nn
        self.net = layers.Sequential(
            layers.Conv2d(3, 32, 3), layers.ReLU(), layers.Conv2d(32, 64, 3), layers.ReLU(), layers.Flatten(),
            layers.Linear(576, 128), layers.ReLU(),
        )  # fmt: skip

    def initial_state(self, batch_size=None):
        return {}

    def forward(self, input, state_in=None):
        image = input["image"]
        seen = image.flatten(0, 1).permute(0, 3, 1, 2).float()
        latent = self.net(seen).unflatten(0, image.shape[:2])
        return {"pi_logits": self.pi_head(latent), "vpred": self.value_head(latent)}, {}


def our_speed(kind):
    """Environment steps per CPU-second of this package, in this process."""
    from mscore_plugin_ppo import MLPPolicy, PPOTrainer

    torch.set_num_threads(1)
    if kind == "doorkey":
        import minigrid  # noqa: F401
        from minigrid.wrappers import ImgObsWrapper

        def make():
            return ImgObsWrapper(gymnasium.make("MiniGrid-DoorKey-5x5-v0"))

        def policy():
            return Convolutional(make().action_space)
    else:

        def make():
            return gymnasium.make("CartPole-v1")

        def policy():
            env = make()
            return MLPPolicy(observation_space=env.observation_space, action_space=env.action_space)

    clock = Clock()
    PPOTrainer(None, policy, make, max_env_steps=STEPS[kind], monitors=[clock], **SPEED[kind]).fit()
    return clock.speed


def speed(sb3, rounds, kinds):
    """Print the ratios beside Stable-Baselines3."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for kind in kinds:
        pairs = []
        for _ in range(rounds):
            commands = [[sb3, "-c", SB3, kind, str(STEPS[kind])]] if sb3 else []
            commands.append([sys.executable, __file__, "one", kind])
            found = [
                subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1]
                for command in commands
            ]
            pairs.append([float(one) for one in found])
        ours = statistics.median(pair[-1] for pair in pairs)
        line = f"{kind:8} {ours:8.0f} environment steps per CPU-second"
        if sb3:
            theirs = statistics.median(pair[0] for pair in pairs)
            ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
            line += f", Stable-Baselines3 {theirs:6.0f}: {ratio:.2f} x (target {TARGETS[kind]} x)"
        print(line, flush=True)


class WithoutVelocities(gymnasium.ObservationWrapper):
    """CartPole that shows positions alone: how fast they change must be remembered."""

    def __init__(self, render_mode=None):
        super().__init__(gymnasium.make("CartPole-v1", render_mode=render_mode))
        high = self.env.observation_space.high[[0, 2]]
        self.observation_space = gymnasium.spaces.Box(-high, high, dtype=np.float32)

    def observation(self, observation):
        return observation[[0, 2]]


gymnasium.register("CartPoleWithoutVelocities-v0", entry_point=WithoutVelocities)

LEARN = {
    "cartpole": {
        "policy": {"use": "mlp"},
        "environment": {"use": "gymnasium", "id": "CartPole-v1"},
        "trainer": {"use": "ppo", "max_steps": 100_000, "num_envs": 8, "fragment_length": 64, "discount": 0.98,
                    "epochs_per_iteration": 10, "use_normalized_vf": True},
        "optimizer": {"use": "adam", "learning_rate": 1e-3, "eps": 1e-5, "fused": True},
        "scheduler": {"use": "linear", "start_factor": 1.0, "end_factor": 0.0, "total_iters": 7840},
        "evaluation": {"episodes": 20, "every_n_steps": 2000},
    },
    "masked": {
        "policy": {"use": "recurrent", "hiddim": 64},
        "environment": {"use": "gymnasium", "id": "CartPoleWithoutVelocities-v0"},
        "trainer": {"use": "ppo", "max_steps": 100_000, "num_envs": 8, "fragment_length": 64, "discount": 0.98,
                    "gae_lambda": 0.9, "epochs_per_iteration": 10, "use_normalized_vf": True},
        "optimizer": {"use": "adam", "learning_rate": 1e-3, "eps": 1e-5, "fused": True},
        "scheduler": {"use": "linear", "start_factor": 1.0, "end_factor": 0.0, "total_iters": 7840},
        "evaluation": {"episodes": 20, "every_n_steps": 10_000},
    },
    "doorkey": {
        "policy": {"use": "recurrent"},
        "environment": {"use": "minigrid", "env": "MiniGrid-DoorKey-5x5-v0"},
        "trainer": {"use": "ppo", "max_steps": 200_000, "num_envs": 16, "fragment_length": 64,
                    "batch_size_per_gpu": 4, "entropy_bonus_coef": 0.01, "epochs_per_iteration": 3},
        "optimizer": {"use": "adam", "learning_rate": 7e-4, "eps": 1e-5, "fused": True},
        "scheduler": {"use": "linear", "start_factor": 1.0, "end_factor": 0.1, "total_iters": 2350},
        "evaluation": {"episodes": 100, "every_n_steps": 25_000},
    },
}  # fmt: skip
SEEDS = {"cartpole": 5, "masked": 3, "doorkey": 3}


def learn(kinds, seeds):
    """Train with several seeds, and print the returns of the evaluations."""
    warnings.simplefilter("ignore")
    for kind in kinds:
        for seed in range(seeds or SEEDS[kind]):
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                began = time.process_time()
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    directory = mscore.run({**LEARN[kind], "name": kind, "seed": seed}).directory
                seconds = time.process_time() - began
                rows = [json.loads(line) for line in Path(directory, "evaluations.jsonl").read_text().splitlines()]
            shown = " ".join(f"{row['step'] // 1000}k:{row['return_mean']:.4g}" for row in rows)
            last = rows[-1]["return_mean"]
            first = next((row["step"] for row in rows if row["return_mean"] >= 475), None)
            line = f"{kind} seed {seed}: {last:.3f} at the end, 475 at step {first}, {seconds:.0f} CPU-s; {shown}"
            print(line, flush=True)


def main():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["speed", "learn", "one"], default="speed")
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--sb3", help="interpreter of an environment with stable-baselines3")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int)
    given = parser.parse_args()
    if given.what == "one":
        print(our_speed(given.kinds[0]))
    elif given.what == "speed":
        speed(given.sb3, given.rounds, given.kinds or list(SPEED))
    else:
        learn(given.kinds or list(LEARN), given.seeds)


if __name__ == "__main__":
    main()
