"""Crafter's game as a gymnasium environment: it was written for the interface that gym had before."""

from typing import Any

import crafter
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

_FILM_UNIT = 40
"""Pixels of a square of the world in films."""


class CrafterGame(gymnasium.Env[Picture, np.int64]):
    """One game of Crafter.

    An episode is a function of its seed and actions. It terminates when the player dies and is truncated at
    ``length``. The info of a step is Crafter's: ``achievements`` and ``inventory`` (counts by name), ``semantic``
    (the world as numbers), ``player_pos``, ``discount`` and ``reward``.

    Args:
        size: width and height of the pictures, in pixels.
        view: columns and rows that they show.
        area: columns and rows of the world.
        length: steps after which an episode is cut off.
        reward: False gives a reward of 0 throughout.
        render_mode: ``"rgb_array"`` or None.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        size: tuple[int, int] = (64, 64),
        view: tuple[int, int] = (9, 9),
        area: tuple[int, int] = (64, 64),
        length: int = 10_000,
        reward: bool = True,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = render_mode
        self._film_size = (view[0] * _FILM_UNIT, view[1] * _FILM_UNIT)
        self._game = _OrderedGame(area=tuple(area), view=tuple(view), size=tuple(size), reward=reward, length=length)
        # Crafter's own space has width and height the wrong way round.
        self.observation_space = spaces.Box(0, 255, (size[1], size[0], 3), np.uint8)
        self.action_space = spaces.Discrete(len(self._game.action_names))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Picture, dict[str, Any]]:
        """Begin an episode in a new world."""
        super().reset(seed=seed)
        return self._game.begin(int(self.np_random.integers(2**31 - 1))), {}

    def step(self, action: np.int64) -> tuple[Picture, float, bool, bool, dict[str, Any]]:
        """Act once."""
        observation, reward, done, info = self._game.step(int(action))
        died = info["discount"] == 0
        info["player_pos"] = info["player_pos"].copy()  # the game's own array, which it goes on with
        return observation, float(reward), died, bool(done and not died), info

    def render(self) -> Picture | None:
        """What the player sees, larger; None unless ``render_mode`` is ``"rgb_array"``."""
        if self.render_mode is None:
            return None
        return self._game.film(self._film_size)


class _OrderedGame(crafter.Env):  # type: ignore[misc]
    """Crafter's game without what makes two episodes of one seed differ."""

    def begin(self, seed: int) -> Picture:
        """Begin the episode of a seed."""
        self._seed, self._episode = seed, 0
        picture: Picture = self.reset()
        return picture

    def film(self, size: tuple[int, int]) -> Picture:
        """A picture of any size that leaves no trace: at night the game draws noise from the world's generator."""
        random = self._world.random.get_state()
        picture: Picture = self.render(size)
        self._world.random.set_state(random)
        return picture

    def _balance_chunk(self, chunk: Any, objs: Any) -> None:
        # A set of objects: its order depends on where they are in memory, and creatures are picked from it by number.
        super()._balance_chunk(chunk, sorted(objs, key=lambda one: tuple(one.pos)))
