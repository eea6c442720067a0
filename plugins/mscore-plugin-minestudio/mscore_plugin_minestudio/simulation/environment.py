"""The environment ``minestudio``."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import gymnasium
from annotated_types import Ge
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import TimeLimit

from mscore import Environment
from mscore_plugin_minestudio.simulation.game import MinecraftGame
from mscore_plugin_minestudio.simulation.package import (
    import_simulator,
    make_callbacks,
    make_camera,
    read_task,
    require_engine,
)

Positive = Annotated[int, Ge(1)]


class MineStudioEnvironment(Environment):
    """Minecraft, by ``MinecraftSim`` of the pip package ``minestudio``, which has to be installed with its engine.

    Observations are dicts with ``image``, (height, width, 3) uint8. Actions are those of VPT, ``buttons`` and
    ``camera``, or with ``action_type: env`` the keys of the game. Names and meanings are ``MinecraftSim``'s.

    Args:
        task: a task of MineStudio's benchmark, such as ``collect_wood``: its commands are given when an episode
            begins, and its text is in the info as ``task``. It has no reward of its own.
        difficulty: of the task.
        action_type: VPT's actions, or the game's own.
        obs_size: width and height of the pictures, in pixels.
        render_size: width and height that the game draws, and that films have.
        seed: of the world; None gives every episode a world of its own.
        inventory: what the player begins with.
        preferred_spawn_biome: where.
        num_empty_frames: frames without an action when an episode begins, until the picture is there.
        callbacks: MineStudio's simulator callbacks by the names of their classes, in their order, with their arguments:
            rewards, commands, masks of actions, fast resets.
        camera_config: how the camera's angles are binned: ``camera_binsize`` (2), ``camera_maxval`` (10, degrees),
            ``camera_mu`` (10) and ``camera_quantization_scheme`` (``mu_law`` or ``linear``).
        max_episode_steps: steps after which an episode is cut off; None for never.
        success_return: return from which on an episode is a success; None leaves it open what a success is.

    Raises:
        MscoreError: when an environment is made, if the package, its engine, the task or a callback is not there,
            or a callback or the camera does not take its arguments.
    """

    def __init__(
        self,
        task: str | None = None,
        difficulty: Literal["simple", "hard"] = "simple",
        action_type: Literal["agent", "env"] = "agent",
        obs_size: tuple[Positive, Positive] = (224, 224),
        render_size: tuple[Positive, Positive] = (640, 360),
        seed: int | None = None,
        inventory: Mapping[str, Any] | None = None,
        preferred_spawn_biome: str | None = None,
        num_empty_frames: Annotated[int, Ge(1)] = 20,
        callbacks: Mapping[str, Mapping[str, Any] | None] | None = None,
        camera_config: Mapping[str, Any] | None = None,
        max_episode_steps: Positive | None = None,
        success_return: float | None = None,
    ) -> None:
        self.task = task
        self.difficulty = difficulty
        self.action_type = action_type
        self.obs_size = obs_size
        self.render_size = render_size
        self.seed = seed
        self.inventory = inventory or {}
        self.preferred_spawn_biome = preferred_spawn_biome
        self.num_empty_frames = num_empty_frames
        self.callbacks = callbacks or {}
        self.camera_config = camera_config or {}
        self.max_episode_steps = max_episode_steps
        self.success_return = success_return

    def make(self, render_mode: str | None = None) -> gymnasium.Env[Any, Any]:
        """Make one environment; its engine starts with the first episode."""
        simulator = import_simulator()
        require_engine(simulator)
        task = None if self.task is None else read_task(self.task, self.difficulty)
        callbacks = make_callbacks(self.callbacks, [] if task is None else task.commands)
        sim = simulator.MinecraftSim(
            action_type=self.action_type,
            obs_size=tuple(self.obs_size),
            render_size=tuple(self.render_size),
            seed=self.seed or 0,
            inventory=dict(self.inventory),
            preferred_spawn_biome=self.preferred_spawn_biome,
            num_empty_frames=self.num_empty_frames,
            callbacks=callbacks,
            camera_config=make_camera(simulator, self.camera_config),
        )
        told = None if task is None else {"name": self.task, "text": task.text}
        env: gymnasium.Env[Any, Any] = MinecraftGame(sim, self.seed, told, render_mode)
        # An episode cannot be played again: the game goes on by itself, whatever the seed.
        env.spec = EnvSpec(id="MineStudio", entry_point=lambda **options: self.make(**options), nondeterministic=True)
        return env if self.max_episode_steps is None else TimeLimit(env, self.max_episode_steps)

    def success(self, episode_return: float, terminated: bool, info: dict[str, Any]) -> bool | None:
        """Whether the return is high enough; None where nothing says what is."""
        return None if self.success_return is None else episode_return >= self.success_return
