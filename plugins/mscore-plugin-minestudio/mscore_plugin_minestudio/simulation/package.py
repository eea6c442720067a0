"""What is taken from the pip package ``minestudio``, which is imported only when an environment is made."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from mscore import MscoreError, did_you_mean

INSTALL = 'pip install "mscore-plugin-minestudio[simulator]"'
DOWNLOAD = "python -m minestudio.simulator.entry -y"
ENGINE = Path("engine", "build", "libs", "mcprec-6.13.jar")
"""The engine, within MineStudio's directory."""

_UNFIT = {
    "JudgeResetCallback": "a time limit is no end of the task, and this one says that it is; use `max_episode_steps`",
    "PlayCallback": "it opens a window for a player",
    "PointCallback": "it opens a window for a player",
    "PlaySegmentCallback": "it opens a window for a player",
    "Compose": "it is made from other callbacks; name them one by one",
}
"""Callbacks that mean nothing in training, and why."""


@dataclass(frozen=True)
class Task:
    """A task of MineStudio's benchmark: commands that begin an episode of it, and what it is in words."""

    commands: list[str]
    text: str


def import_simulator() -> Any:
    """The module with ``MinecraftSim`` and ``CameraConfig``.

    Raises:
        MscoreError: the package is not installed, or lacks something that it needs.
    """
    try:
        return import_module("minestudio.simulator.entry")
    except ImportError as error:
        if find_spec("minestudio") is None:
            raise MscoreError(
                f"the environment 'minestudio' needs the package minestudio, which is not installed: {INSTALL}, then "
                f"{DOWNLOAD} for the game's engine"
            ) from error
        raise MscoreError(f"the package minestudio cannot be imported ({error}); {INSTALL} brings it whole") from error


def require_engine(simulator: Any) -> None:
    """Check that the engine is there: the simulator itself would ask on the terminal whether to load it.

    Raises:
        MscoreError: it is not.
    """
    folder = Path(simulator.get_mine_studio_dir())
    if not (folder / ENGINE).is_file():
        raise MscoreError(
            f"the engine of minestudio's simulator is not at {folder / ENGINE}; {DOWNLOAD} loads it, and the "
            "environment variable MINESTUDIO_DIR says where it is"
        )


def read_task(name: str, difficulty: str) -> Task:
    """A task of the benchmark that the package brings.

    Raises:
        MscoreError: there is none of this name.
    """
    folder = Path(import_module("minestudio").__path__[0], "benchmark", "task_configs", difficulty)
    known = [path.stem for path in folder.glob("*.yaml")]
    if name not in known:
        raise MscoreError(
            f"minestudio's benchmark has no {difficulty} task {name!r}.{did_you_mean(name, known)} "
            f"It has {len(known)}, in {folder}"
        )
    content = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return Task(list(content.get("custom_init_commands") or []), str(content.get("text") or "").strip())


def make_callbacks(wanted: Mapping[str, Mapping[str, Any] | None], commands: Sequence[str]) -> list[Any]:
    """Simulator callbacks by the names of their classes.

    Args:
        wanted: arguments by name, in the order in which they are called.
        commands: given before all of them when an episode begins.

    Raises:
        MscoreError: there is none of a name, it is of no use here, or it does not take the arguments.
    """
    module = import_module("minestudio.simulator.callbacks")
    known = {
        name: one
        for name, one in vars(module).items()
        if isinstance(one, type) and issubclass(one, module.MinecraftCallback) and one is not module.MinecraftCallback
    }
    made = [known["CommandsCallback"](list(commands))] if commands else []
    for name, arguments in wanted.items():
        if name not in known:
            fit = sorted(set(known) - set(_UNFIT))
            raise MscoreError(
                f"environment.callbacks: minestudio has no callback {name!r}.{did_you_mean(name, fit)} "
                f"There are: {', '.join(fit)}"
            )
        if name in _UNFIT:
            raise MscoreError(f"environment.callbacks.{name} cannot be used here: {_UNFIT[name]}")
        made.append(_made(f"environment.callbacks.{name}", known[name], dict(arguments or {})))
    return made


def make_camera(simulator: Any, wanted: Mapping[str, Any]) -> Any:
    """The simulator's ``CameraConfig``.

    Raises:
        MscoreError: it does not take the arguments.
    """
    return _made("environment.camera_config", simulator.CameraConfig, dict(wanted))


def _made(path: str, target: Any, arguments: dict[str, Any]) -> Any:
    signature = inspect.signature(target)
    try:
        signature.bind(**arguments)
        return target(**arguments)
    except (TypeError, ValueError) as error:
        raise MscoreError(f"{path}: {error}; {target.__name__} takes {signature}") from error
