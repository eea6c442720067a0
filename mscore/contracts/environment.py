"""Environments: factories of gymnasium environments, with what else they may offer."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import gymnasium

Expert = Callable[[Any], Any]
"""Takes an observation, returns the action that the expert would take."""


class Environment(ABC):
    """A factory of gymnasium environments; its constructor's parameters are what a config may say.

    Only :meth:`make` is needed. A plain callable that returns a ``gymnasium.Env`` (a function, or an
    environment class) may be registered instead; it then offers nothing else.
    """

    @abstractmethod
    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one environment.

        Args:
            render_mode: gymnasium's; ``"rgb_array"`` when a video is to be written.
        """

    def __call__(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one environment: a factory is called like a function."""
        return self.make(render_mode)

    def expert(self, env: gymnasium.Env[Any, Any]) -> Expert | None:
        """An expert for the episode that ``env`` has just been reset to, or None if there is none."""
        return None

    def vector(self, num_envs: int) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
        """Several environments stepped together, with SAME_STEP autoreset."""
        return gymnasium.vector.SyncVectorEnv(
            [self.make] * num_envs, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP
        )

    def success(self, episode_return: float, terminated: bool, info: dict[str, Any]) -> bool | None:
        """Whether an episode that has ended was a success; None where the notion does not exist.

        Args:
            episode_return: sum of the episode's rewards.
            terminated: the episode ended by itself rather than by a time limit.
            info: the last step's info; its ``success`` or ``is_success`` is used where there is one.
        """
        for key in ("success", "is_success"):
            if key in info:
                return bool(info[key])
        return None


class CallableEnvironment(Environment):
    """Wraps a plain callable that returns a ``gymnasium.Env``."""

    def __init__(self, target: Callable[..., gymnasium.Env[Any, Any]], takes_render_mode: bool, **parameters: Any):
        self._target = target
        self._takes_render_mode = takes_render_mode
        self._parameters = parameters

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Call the wrapped callable with the config's parameters."""
        if self._takes_render_mode:
            return self._target(**self._parameters, render_mode=render_mode)
        return self._target(**self._parameters)


class GymnasiumEnvironment(Environment):
    """Any environment of gymnasium's registry.

    Args:
        id: registered name, such as ``CartPole-v1`` or ``package:Name-v0``.
        kwargs: further arguments for ``gymnasium.make``.
    """

    def __init__(self, id: str, kwargs: dict[str, Any] | None = None) -> None:
        self.id = id
        self.kwargs = kwargs or {}

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one environment with ``gymnasium.make``."""
        return gymnasium.make(self.id, render_mode=render_mode, **self.kwargs)
