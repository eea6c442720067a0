"""Environments, trainers, optimizers, schedulers and loggers with one mistake each."""

import random

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from lightning.pytorch.loggers import Logger
from torch.optim.lr_scheduler import LambdaLR

from mscore import Environment, MscoreError, Trainer
from mscore.testing import TinyEnvironment


class RightEnvironment(TinyEnvironment):
    """The guessing game."""


class RightWithoutItsPackage(TinyEnvironment):
    """A game of another package, which is not installed."""

    def make(self, render_mode=None):
        try:
            import no_such_game
        except ImportError as error:
            raise MscoreError("it needs a game; pip install no_such_game") from error
        return no_such_game.make()


class RightButRefusing(TinyEnvironment):
    """A game that cannot be made for another reason."""

    def make(self, render_mode=None):
        raise MscoreError("no game today")


class Changed(gymnasium.Wrapper):
    """Shows what the factory says."""

    def __init__(self, env, factory):
        super().__init__(env)
        self.factory = factory

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        return self.factory.shown(observation), info

    def step(self, action):
        observation, *rest = super().step(action)
        return self.factory.shown(observation), *rest


class Changing(TinyEnvironment):
    def make(self, render_mode=None):
        return Changed(super().make(render_mode), self)


class GymnasiumEnvironment(Changing):
    def shown(self, observation):
        return np.zeros(3, np.float64)


class SpacesEnvironment(TinyEnvironment):
    def make(self, render_mode=None):
        env = super().make(render_mode)
        env.action_space = spaces.OneOf([spaces.Discrete(5), spaces.Discrete(2)])
        return env


class SeedsEnvironment(Changing):
    def shown(self, observation):
        return (observation + random.random()).astype(np.float32)


class IndependentEnvironment(Changing):
    steps = 0

    def make(self, render_mode=None):
        self.steps = 0
        return super().make(render_mode)

    def shown(self, observation):
        self.steps += 1
        return np.full(4, self.steps % 2, np.float32)


class VectorEnvironment(TinyEnvironment):
    def vector(self, num_envs):
        return gymnasium.vector.SyncVectorEnv([self.make] * num_envs)


class ExpertEnvironment(TinyEnvironment):
    def expert(self, env):
        return lambda observation: 99


class SuccessEnvironment(TinyEnvironment):
    def success(self, episode_return, terminated, info):
        return "yes"


class PicturesEnvironment(TinyEnvironment):
    def make(self, render_mode=None):
        env = super().make(render_mode)
        env.metadata = {"render_modes": ["rgb_array"]}
        env.render = lambda: np.zeros((4, 4))
        return env


class PicklableEnvironment(TinyEnvironment):
    def __init__(self):
        self.function = lambda x: x


class RightTrainer(Trainer):
    """Trains nothing and saves.

    Args:
        max_steps: to pretend.
    """

    sections = frozenset({"data", "objectives"})
    run_length = frozenset({"max_steps"})

    def __init__(self, max_steps: int = 1) -> None:
        self.max_steps = max_steps

    def fit(self, run):
        weights = {f"mine_policy.{name}": value for name, value in run.policy.state_dict().items()}
        run.checkpoints.mkdir(exist_ok=True)
        saved = {
            "state_dict": weights,
            "optimizer_states": [],
            "global_step": self.max_steps,
            "hyper_parameters": run.hyperparameters,
        }
        torch.save(self.changed(saved), run.checkpoints / "last.ckpt")

    def changed(self, saved):
        return saved


class DeclaresTrainer(RightTrainer):
    sections = frozenset({"data", "objectives", "rewards"})


class TrainsTrainer(RightTrainer):
    def fit(self, run):
        raise RuntimeError("no")


class CheckpointTrainer(RightTrainer):
    def changed(self, saved):
        return {**saved, "global_step": 0}


class PolicyTrainer(RightTrainer):
    def changed(self, saved):
        return {**saved, "hyper_parameters": {}}


class StepsOptimizer(torch.optim.SGD):
    """Does nothing."""

    def __init__(self, params) -> None:
        super().__init__(params, lr=0.1)

    def step(self, closure=None):
        return None


class ResumeOptimizer(torch.optim.SGD):
    """Steps less each time, and forgets how often."""

    def __init__(self, params) -> None:
        super().__init__(params, lr=0.1)
        self.times = 0

    def step(self, closure=None):
        self.times += 1
        self.param_groups[0]["lr"] = 0.1 / self.times
        return super().step(closure)


class StepsScheduler(LambdaLR):
    """Counts beside its state."""

    def __init__(self, optimizer) -> None:
        self.times = 0
        super().__init__(optimizer, lambda step: 1.0)

    def get_lr(self):
        self.times += 1
        return [0.1 / self.times for _ in self.optimizer.param_groups]

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        self.times = 0


class RightLogger(Logger):
    """Logs nowhere."""

    name, version = "nowhere", ""

    def log_hyperparams(self, params, *arguments):
        pass

    def log_metrics(self, metrics, step=None):
        pass


class RowsLogger(RightLogger):
    """Wants plain parameters."""

    def log_hyperparams(self, params, *arguments):
        if any(isinstance(value, dict) for value in params.values()):
            raise TypeError("nested")


class FitsLogger(RightLogger):
    """Raises at rows that only a fit has."""

    def log_metrics(self, metrics, step=None):
        if step is not None and step > 5:
            raise OSError("no space")


class NoEnvironment(Environment):
    """Makes none."""

    def make(self, render_mode=None):
        return None
