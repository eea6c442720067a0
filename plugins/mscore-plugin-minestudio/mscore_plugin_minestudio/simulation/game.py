"""MineStudio's simulator by the rules of gymnasium."""

import contextlib
import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

BUTTONS = 8641
"""Combinations of VPT's buttons."""


class MinecraftGame(gymnasium.Env[dict[str, Any], dict[str, Any]]):
    """A ``MinecraftSim``, whose ``reset`` takes a seed, and whose faults are exceptions.

    Args:
        sim: the simulator.
        seed: of every world; None takes the episode's.
        task: what the info says of the task.
        render_mode: ``"rgb_array"`` or None.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, sim: Any, seed: int | None, task: dict[str, Any] | None, render_mode: str | None) -> None:
        self.sim = sim
        self.render_mode = render_mode
        self._seed = seed
        self._task = task
        self._drawn: Any = None
        width, height = sim.obs_size
        # The simulator's own space has width and height the wrong way round, and always 121 bins of the camera.
        self.observation_space = spaces.Dict({"image": spaces.Box(0, 255, (height, width, 3), np.uint8)})
        if sim.action_type == "agent":
            bins = sim.action_mapper.n_camera_bins**2
            self.action_space = spaces.Dict(
                [("buttons", spaces.MultiDiscrete([BUTTONS])), ("camera", spaces.MultiDiscrete([bins]))]
            )
        else:
            self.action_space = sim.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode: in a new world, unless a callback resets faster."""
        super().reset(seed=seed)
        world = int(self.np_random.integers(2**31 - 1)) if self._seed is None else self._seed
        self.sim.env.seed(world)  # it forgets the seed with every reset
        self.sim.info = None  # it would hand on what the last episode ended with
        with _quiet():
            observation, info = self.sim.reset()
        return self._shown(observation, info), self._told(info)

    def step(self, action: dict[str, Any]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Act for a tick of the game, a twentieth of a second.

        Raises:
            RuntimeError: the engine does not answer.
        """
        taken = {key: np.asarray(value) for key, value in action.items()}  # the simulator empties it
        with _quiet():
            observation, reward, terminated, truncated, info = self.sim.step(taken)
        if "error" in info:
            # It hands out a random picture as the episode's last.
            raise RuntimeError(f"Minecraft's engine does not answer: {info['error']}")
        cut = bool(truncated and not terminated)  # it calls every end a time limit too
        return self._shown(observation, info), float(reward), bool(terminated), cut, self._told(info)

    def render(self) -> Any:
        """What the game drew last, in its own size; None unless ``render_mode`` is ``"rgb_array"``."""
        return None if self.render_mode is None else self._drawn

    def close(self) -> None:
        """End the engine."""
        self.sim.close()

    def _shown(self, observation: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
        self._drawn = info.pop("pov")
        return {"image": observation["image"]}

    def _told(self, info: dict[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = _plain(info)
        return told if self._task is None else {**told, "task": self._task}


def _plain(value: Any) -> Any:
    """Dicts that a process can be sent: the counts of the game's events have a default that cannot be pickled."""
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """It prints, in the middle of progress bars and JSON."""
    return contextlib.redirect_stdout(sys.stderr)
