"""Environment steps per CPU-second of PPO beside Stable-Baselines3, for ``bench_ppo.py``.

Both sides train with the same hyper-parameters and network, in processes of their own with one thread, in turn.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import torch
from ppo_peer import peer_python

import mscore

CASES = {
    "zoo": {"num_envs": 8, "fragment_length": 32, "batch_size_per_gpu": 8, "batches_per_iteration": 1,
            "epochs_per_iteration": 20, "discount": 0.98, "gae_lambda": 0.8, "learning_rate": 1e-3},
    "default": {"num_envs": 1, "fragment_length": 64, "batch_size_per_gpu": 1, "batches_per_iteration": 32,
                "epochs_per_iteration": 10, "learning_rate": 3e-4},
    "doorkey": {"num_envs": 8, "fragment_length": 128, "batch_size_per_gpu": 2, "batches_per_iteration": 4,
                "epochs_per_iteration": 4, "learning_rate": 3e-4},
}  # fmt: skip
TITLES = {
    "zoo": "CartPole-v1, 8 environments, SB3-zoo",
    "default": "CartPole-v1, 1 environment, SB3 defaults",
    "doorkey": "DoorKey-5x5, images, 8 environments",
}
TARGETS = {"zoo": 1.4, "default": 1.9, "doorkey": 1.0}
STEPS = {"zoo": 30_000, "default": 16_384, "doorkey": 12_288}
LEFT_OUT = 2048
"""Steps at the beginning that do not count, for the sake of imports and first calls."""


class Clock:
    """Measures training from the step ``LEFT_OUT`` on."""

    began = None

    def on_start(self, trainer):
        pass

    def on_iteration(self, trainer, metrics):
        if trainer.env_steps >= LEFT_OUT and self.began is None:
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


def ours(case):
    """Environment steps per CPU-second of this package, in this process."""
    from mscore_plugin_ppo import MLPPolicy, PPOTrainer

    torch.set_num_threads(1)
    if case == "doorkey":
        import minigrid  # noqa: F401  registers its environments
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
    PPOTrainer(None, policy, make, max_env_steps=STEPS[case], monitors=[clock], **CASES[case]).fit()
    return clock.speed


def compare(rounds, cases=None):
    """Print the ratios."""
    folder = Path(__file__).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    peer = peer_python()
    for case in cases or CASES:
        commands = (
            [sys.executable, folder / "ppo_speed.py", case],
            [peer, folder / "ppo_speed_sb3.py", case, str(STEPS[case]), str(LEFT_OUT)],
        )
        pairs = []
        for _ in range(rounds):
            said = [
                subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
                for command in commands
            ]
            pairs.append([float(one.split()[-1]) for one in said])
        left, right = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(
            f"{TITLES[case]:42} {left:6.0f} environment steps per CPU-second, Stable-Baselines3 {right:6.0f}: "
            f"{ratio:.2f} x (at least {TARGETS[case]} x)",
            flush=True,
        )


if __name__ == "__main__":
    print(ours(sys.argv[1]))
