"""Environments: factories of gymnasium environments, with what else they may offer."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import gymnasium
from pydantic import AfterValidator

from mscore.errors import MscoreError

Expert = Callable[[Any], Any]
"""Takes an observation, returns the action that the expert would take."""


class Environment(ABC):
    """A factory of gymnasium environments; its constructor's parameters are what a config may say.

    Only :meth:`make` is needed. A plain callable that returns a ``gymnasium.Env`` (a function, or an
    environment class) may be registered instead; :class:`CallableEnvironment` says what it may offer.
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
    """Wraps a plain callable that returns a ``gymnasium.Env``: a function, or an environment class.

    What else the callable offers as attributes named ``expert``, ``vector`` and ``success`` is offered,
    with the arguments of the methods here (``vector`` also receives the config's parameters). On a class
    they must be static or class methods: others belong to its instances.

    Args:
        target: the callable.
        parameters: its other arguments. ``render_mode`` is passed when asked for, if the signature takes it.
    """

    def __init__(
        self,
        target: Callable[..., gymnasium.Env[Any, Any]],
        /,
        **parameters: Any,
    ) -> None:
        self.target = target
        self.parameters = parameters
        self._takes_render_mode = _takes(target, "render_mode")

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Call the wrapped callable with the config's parameters."""
        if render_mode is not None and self._takes_render_mode:
            return self.target(**{**self.parameters, "render_mode": render_mode})
        return self.target(**self.parameters)

    def expert(self, env: gymnasium.Env[Any, Any]) -> Expert | None:
        """The callable's own, or none."""
        own = _offered(self.target, "expert")
        return super().expert(env) if own is None else own(env)

    def vector(self, num_envs: int) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
        """The callable's own, or several environments stepped one after another."""
        own = _offered(self.target, "vector")
        return super().vector(num_envs) if own is None else own(num_envs, **self.parameters)

    def success(self, episode_return: float, terminated: bool, info: dict[str, Any]) -> bool | None:
        """The callable's own, or what the last step's info says."""
        own = _offered(self.target, "success")
        return (
            super().success(episode_return, terminated, info) if own is None else own(episode_return, terminated, info)
        )


def _registered_name(value: str) -> str:
    if ":" in value:
        raise ValueError(
            "expected a registered name without a package: what stands before a colon would be imported, and a "
            "config names installed plugins' components only; a plugin with an `mscore_environments` hook can"
        )
    return value


EnvironmentId = Annotated[str, AfterValidator(_registered_name)]
"""Name in gymnasium's registry, as a config may give it.

gymnasium imports the package in ``package:Name-v0``; no YAML file shall choose what is imported.
"""


class GymnasiumEnvironment(Environment):
    """Any environment of gymnasium's registry.

    Args:
        id: registered name, such as ``CartPole-v1``.
        kwargs: further arguments for ``gymnasium.make``.
    """

    def __init__(self, id: EnvironmentId, kwargs: dict[str, Any] | None = None) -> None:
        self.id = id
        self.kwargs = kwargs or {}

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one environment with ``gymnasium.make``."""
        return gymnasium.make(self.id, render_mode=render_mode, **self.kwargs)


def as_environment(target: Any, parameters: Mapping[str, Any] | None = None) -> Environment:
    """The environment that a registered component and a config's parameters make.

    Args:
        target: an :class:`Environment` subclass, a function that returns a ``gymnasium.Env``, or an
            environment class; or an :class:`Environment` that is made already, which takes no parameters.
        parameters: what the config says.

    Raises:
        MscoreError: for anything else.
    """
    if isinstance(target, type) and issubclass(target, Environment):
        return target(**(parameters or {}))
    if isinstance(target, Environment) and not parameters:
        return target
    if callable(target) and not isinstance(target, Environment):
        return CallableEnvironment(target, **(parameters or {}))
    raise MscoreError(
        f"{target!r} is no environment; expected a subclass of mscore.Environment, a function that returns a "
        "gymnasium.Env, or an environment class"
        + (", as an environment that is made already takes no parameters" if isinstance(target, Environment) else "")
    )


def _takes(target: Callable[..., Any], name: str) -> bool:
    """Whether a callable takes a keyword argument of this name, also through ``**kwargs``."""
    try:
        signature = inspect.signature(target)
    except ValueError:  # written in C, without a signature
        return False
    return any(
        parameter.kind is parameter.VAR_KEYWORD
        or (parameter.name == name and parameter.kind is not parameter.POSITIONAL_ONLY)
        for parameter in signature.parameters.values()
    )


def _offered(target: Any, name: str) -> Callable[..., Any] | None:
    if isinstance(target, type):
        declared = inspect.getattr_static(target, name, None)
        if not isinstance(declared, staticmethod | classmethod):
            return None
    offered = getattr(target, name, None)
    return offered if callable(offered) else None
