"""MiniGrid and BabyAI environments, and the expert bot of BabyAI's levels."""

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import gymnasium
import minigrid  # noqa: F401  (registers the environments)
from minigrid.utils.baby_ai_bot import BabyAIBot

from mscore import Environment, EnvironmentId, MscoreError


class _Level(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Remembers the last action, which the bot needs, and keeps the level generator off stdout."""

    last_action: Any = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.last_action = None
        # A level that is drawn again says so with print(), in the middle of progress bars and JSON.
        with contextlib.redirect_stdout(io.StringIO()):
            return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.last_action = action
        return super().step(action)


class MiniGridEnvironment(Environment):
    """Any environment of the minigrid package, with BabyAI's bot as the expert of BabyAI's levels.

    Observations are dicts: ``image`` (7, 7, 3) uint8, the cells in view as (object, colour, state),
    ``direction`` 0 to 3, and ``mission``, the task in words. Actions are Discrete(7).

    Args:
        env: registered name, such as ``BabyAI-UnlockPickup-v0`` or ``MiniGrid-DoorKey-5x5-v0``.
        kwargs: further arguments for ``gymnasium.make``, such as ``max_steps``.
    """

    def __init__(self, env: EnvironmentId = "BabyAI-UnlockPickup-v0", kwargs: dict[str, Any] | None = None) -> None:
        self.env = env
        self.kwargs = kwargs or {}

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one environment.

        Raises:
            MscoreError: gymnasium knows no such environment, or it does not take the arguments.
        """
        try:
            return _Level(gymnasium.make(self.env, render_mode=render_mode, **self.kwargs))
        except (gymnasium.error.Error, ModuleNotFoundError, TypeError) as error:
            raise MscoreError(f"environment {self.env!r} cannot be made: {error}") from error

    def expert(self, env: gymnasium.Env[Any, Any]) -> "BotExpert":
        """BabyAI's bot for the episode that ``env``, made by this factory, has just been reset to.

        Raises:
            MscoreError: the environment has no instructions to follow (it is not a BabyAI level), or the
                bot does not understand them.
        """
        if not hasattr(env.unwrapped, "instrs"):
            raise MscoreError(
                f"the expert bot cannot play {self.env!r}: it follows the instructions of BabyAI's levels, "
                "and this environment has none; choose a BabyAI-… environment"
            )
        return BotExpert(env, self.env)

    def success(self, episode_return: float, terminated: bool, info: dict[str, Any]) -> bool:
        """True if the task was done: the episode ended by itself, with a reward."""
        return terminated and episode_return > 0


class BotExpert:
    """BabyAI's bot, playing one episode; called with each observation, it returns its action (an int).

    It sees the environment itself, not the observation, and plans again from whatever action was really
    taken, so it can also advise another player.

    Args:
        env: an environment of :class:`MiniGridEnvironment` that has just been reset.
        name: the environment's name, for messages.

    Raises:
        MscoreError: on construction or when called, if the bot cannot go on.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], name: str) -> None:
        self._env = env
        self._name = name
        with self._failure():
            self._bot: Any = BabyAIBot(env)  # type: ignore[no-untyped-call]

    def __call__(self, observation: Any) -> int:
        """The bot's action for the state that the environment is in."""
        with self._failure():
            return int(self._bot.replan(self._env.get_wrapper_attr("last_action")))

    @contextlib.contextmanager
    def _failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            # The bot has no error class of its own: it asserts, indexes and raises whatever comes up.
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise MscoreError(f"the expert bot cannot go on in {self._name!r} ({reason})") from error
