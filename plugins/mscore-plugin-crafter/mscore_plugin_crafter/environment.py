"""The environment ``crafter``."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import gymnasium
from annotated_types import Ge, MinLen
from crafter import constants

from mscore import Environment, MscoreError
from mscore_plugin_crafter.game import CrafterGame

Achievement = Literal[
    "collect_coal", "collect_diamond", "collect_drink", "collect_iron", "collect_sapling", "collect_stone",
    "collect_wood", "defeat_skeleton", "defeat_zombie", "eat_cow", "eat_plant", "make_iron_pickaxe",
    "make_iron_sword", "make_stone_pickaxe", "make_stone_sword", "make_wood_pickaxe", "make_wood_sword",
    "place_furnace", "place_plant", "place_stone", "place_table", "wake_up",
]  # fmt: skip
"""What an episode may achieve."""

Pair = tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]]


class CrafterEnvironment(Environment):
    """Crafter (Hafner 2022): forage, build and survive in a world of its own for every seed.

    Observations are pictures (height, width, 3) uint8, actions Discrete(17). The reward is 1 for every achievement
    that the episode had not unlocked before, and 0.1 for every point of health won or lost.

    Args:
        size: width and height of the pictures, in pixels.
        view: columns and rows of the world that they show, the rows of the inventory included.
        area: columns and rows of the world.
        length: steps after which an episode is cut off.
        reward: False gives a reward of 0 throughout.
        goals: an episode is a success if it unlocked all of these; None leaves it open what a success is.

    Raises:
        MscoreError: ``size`` or ``view`` is too small for the game to draw.
    """

    def __init__(
        self,
        size: Pair = (64, 64),
        view: Pair = (9, 9),
        area: Pair = (64, 64),
        length: Annotated[int, Ge(1)] = 10_000,
        reward: bool = True,
        goals: Annotated[Sequence[Achievement], MinLen(1)] | None = None,
    ) -> None:
        _check_that_it_fits(size, view)
        self.size = size
        self.view = view
        self.area = area
        self.length = length
        self.reward = reward
        self.goals = goals

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one environment."""
        return CrafterGame(self.size, self.view, self.area, self.length, self.reward, render_mode)

    def success(self, episode_return: float, terminated: bool, info: dict[str, Any]) -> bool | None:
        """Whether all goals were unlocked; None without goals."""
        if self.goals is None:
            return None
        return all(info["achievements"][goal] > 0 for goal in self.goals)


def _check_that_it_fits(size: tuple[int, int], view: tuple[int, int]) -> None:
    inventory_rows = math.ceil(len(constants.items) / view[0])
    if view[1] <= inventory_rows:
        raise MscoreError(
            f"crafter: a `view` of {view[0]} columns has {inventory_rows} rows of inventory, and of {view[1]} rows "
            "none is left to show the world; make it wider or higher (9 x 9 is Crafter's)"
        )
    if size[0] < 2 * view[0] or size[1] < 2 * view[1]:
        raise MscoreError(
            f"crafter: {size[0]} x {size[1]} pixels are too few for a `view` of {view[0]} x {view[1]} squares, each of "
            "which needs 2 x 2; make `size` larger or `view` smaller"
        )
