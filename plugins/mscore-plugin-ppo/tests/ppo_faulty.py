"""An environment with faults, in a module that its processes import: it imports little."""

import os
import random
import signal
import time

import gymnasium


class Faulty(gymnasium.Wrapper):
    """CartPole that raises, hangs or dies at a step of each episode, or raises in reset."""

    def __init__(self, fault=None, at=3, from_episode=0):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.fault, self.at, self.from_episode, self.episode = fault, at, from_episode, -1

    def reset(self, **kwargs):
        self.t, self.episode = 0, self.episode + 1
        if self.fault == "reset":
            raise RuntimeError("no level could be made")
        return super().reset(**kwargs)

    def step(self, action):
        self.t += 1
        if self.t == self.at and self.episode >= self.from_episode:
            if self.fault == "raise":
                raise RuntimeError("the game crashed")
            if self.fault == "hang":
                time.sleep(60)
            if self.fault == "die":
                os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Factory:
    """Makes a Faulty; picklable, and in the parent without fault."""

    def __init__(self, **arguments):
        self.arguments = arguments

    def __call__(self):
        return Faulty(**self.arguments)


class Crashing:
    """Makes CartPoles that raise and stall now and then; picklable.

    Args:
        crash: chance of raising, per step.
        stall: chance of hanging, per step.
    """

    def __init__(self, crash, stall):
        self.crash, self.stall = crash, stall

    def __call__(self):
        return _Unlucky(self.crash, self.stall)


class _Unlucky(gymnasium.Wrapper):
    def __init__(self, crash, stall):
        super().__init__(gymnasium.make("CartPole-v1"))
        self.crash, self.stall = crash, stall

    def step(self, action):
        luck = random.random()
        if luck < self.crash:
            raise RuntimeError("bad luck")
        if luck > 1 - self.stall:
            time.sleep(60)
        return super().step(action)


def make_unsteady():
    """A CartPole that says of itself that it is no function of seed and actions."""
    env = gymnasium.make("CartPole-v1")
    env.spec.nondeterministic = True
    return env
