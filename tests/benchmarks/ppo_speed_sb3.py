"""Stable-Baselines3's side of ``ppo_speed.py``, run by the interpreter of ``ppo_peer.py``."""

import sys
import time

import minigrid  # noqa: F401  registers its environments
import torch
from minigrid.wrappers import ImgObsWrapper
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor


class Clock(BaseCallback):
    """Notes when the steps that do not count are over."""

    def __init__(self, left_out):
        super().__init__()
        self.left_out = left_out
        self.began = None

    def _on_rollout_start(self):
        if self.num_timesteps >= self.left_out and self.began is None:
            self.began = time.process_time(), self.num_timesteps

    def _on_step(self):
        return True


class Convolutions(BaseFeaturesExtractor):
    """The network of ``Convolutional`` in ``ppo_speed.py``."""

    def __init__(self, space, features_dim=128):
        super().__init__(space, features_dim)
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 64, 3), torch.nn.ReLU(),
            torch.nn.Flatten(), torch.nn.Linear(576, features_dim), torch.nn.ReLU(),
        )  # fmt: skip

    def forward(self, seen):
        return self.net(seen)


def make(case):
    """The learner of a case, with the hyper-parameters that ``ppo_speed.py`` gives ours."""
    if case == "zoo":
        envs = make_vec_env("CartPole-v1", 8)
        return PPO(
            "MlpPolicy", envs, n_steps=32, batch_size=256, n_epochs=20, gamma=0.98, gae_lambda=0.8,
            learning_rate=lambda left: left * 1e-3, clip_range=0.2, device="cpu",
        )  # fmt: skip
    if case == "default":
        return PPO("MlpPolicy", make_vec_env("CartPole-v1", 1), device="cpu")
    envs = make_vec_env("MiniGrid-DoorKey-5x5-v0", 8, wrapper_class=ImgObsWrapper)
    network = {"features_extractor_class": Convolutions, "net_arch": [], "normalize_images": False}
    return PPO("CnnPolicy", envs, n_steps=128, batch_size=256, n_epochs=4, device="cpu", policy_kwargs=network)


if __name__ == "__main__":
    torch.set_num_threads(1)
    model, clock = make(sys.argv[1]), Clock(int(sys.argv[3]))
    model.learn(int(sys.argv[2]), callback=clock)
    print((model.num_timesteps - clock.began[1]) / (time.process_time() - clock.began[0]))
