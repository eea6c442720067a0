"""The whole extension surface of mscore on one page.

A plugin is an installed distribution with an entry point in the group ``mscore`` that names a light
module. The module implements any of these hooks with :data:`hookimpl`::

    from mscore import hookimpl

    @hookimpl
    def mscore_objectives():
        return {"focal": "mscore_plugin_focal.objective:FocalObjective"}

Registration hooks return import strings, so that listing plugins imports nothing heavy. Life-cycle
hooks run on rank zero, only in runs whose config uses the plugin. No hook is called per batch.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from mscore.config import RunConfig
    from mscore.contracts.trainer import Run

PROJECT = "mscore"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Registrations = Mapping[str, str]
"""Component name to import string, ``"package.module:Attribute"``."""

KIND_OF_HOOK = {
    "mscore_objectives": "objective",
    "mscore_policies": "policy",
    "mscore_callbacks": "callback",
    "mscore_datamodules": "datamodule",
    "mscore_environments": "environment",
    "mscore_trainers": "trainer",
    "mscore_optimizers": "optimizer",
    "mscore_schedulers": "scheduler",
    "mscore_loggers": "logger",
    "mscore_recipes": "recipe",
    "mscore_commands": "command",
}
"""Registration hook to the kind of component that it registers."""


@hookspec
def mscore_objectives() -> Registrations:  # type: ignore[empty-body]
    """Register objectives (losses and metrics): subclasses of ``mscore.ObjectiveCallback``.

    Example: ``return {"kl": "mscore_plugin_kl.objective:KLDivergenceCallback"}``
    """


@hookspec
def mscore_policies() -> Registrations:  # type: ignore[empty-body]
    """Register policies: subclasses of ``mscore.MinePolicy``.

    Example: ``return {"recurrent": "mscore_plugin_recurrent.policy:RecurrentPolicy"}``
    """


@hookspec
def mscore_callbacks() -> Registrations:  # type: ignore[empty-body]
    """Register training callbacks: subclasses of ``lightning.pytorch.Callback``.

    Example: ``return {"ema": "mscore_plugin_ema.callback:EMA"}``
    """


@hookspec
def mscore_datamodules() -> Registrations:  # type: ignore[empty-body]
    """Register data modules: subclasses of ``lightning.pytorch.LightningDataModule``.

    Example: ``return {"minigrid": "mscore_plugin_minigrid.datamodule:MiniGridDataModule"}``
    """


@hookspec
def mscore_environments() -> Registrations:  # type: ignore[empty-body]
    """Register environments: ``mscore.Environment`` subclasses, or callables returning a gymnasium Env.

    Example: ``return {"minigrid": "mscore_plugin_minigrid.environment:MiniGridEnvironment"}``
    """


@hookspec
def mscore_trainers() -> Registrations:  # type: ignore[empty-body]
    """Register trainers: subclasses of ``mscore.Trainer`` whose ``fit(run)`` trains a run.

    Example: ``return {"ppo": "mscore_plugin_ppo.adapter:PPO"}``
    """


@hookspec
def mscore_optimizers() -> Registrations:  # type: ignore[empty-body]
    """Register optimizers: called with the parameters, then the config's arguments.

    Example: ``return {"lion": "mscore_plugin_lion.optimizer:Lion"}``
    """


@hookspec
def mscore_schedulers() -> Registrations:  # type: ignore[empty-body]
    """Register learning-rate schedulers: called with the optimizer, then the config's arguments.

    Example: ``return {"cosine": "mscore_plugin_cosine.scheduler:CosineWithWarmup"}``
    """


@hookspec
def mscore_loggers() -> Registrations:  # type: ignore[empty-body]
    """Register loggers: subclasses of ``lightning.pytorch.loggers.Logger``.

    Example: ``return {"aim": "mscore_plugin_aim.logger:AimLogger"}``
    """


@hookspec
def mscore_recipes() -> str:  # type: ignore[empty-body]
    """Register ready configs: the import name of a package folder that holds YAML files.

    A recipe's name is its file's name without ``.yaml``.

    Example: ``return "mscore_plugin_minigrid.recipes"``
    """


@hookspec
def mscore_commands() -> Registrations:  # type: ignore[empty-body]
    """Register commands: command path to the import string of a ``click.Command``.

    Several plugins can add to one group.

    Example: ``return {"data convert": "mscore_plugin_minestudio.commands:convert"}``
    """


@hookspec
def mscore_run_configured(config: "RunConfig") -> None:
    """Called once a run's config is valid and its components are built, before training.

    Example: ``print(config.name)``
    """


@hookspec
def mscore_run_started(run: "Run") -> None:
    """Called when the run's directory exists and training is about to begin.

    Example: ``(run.directory / "note.txt").write_text("started")``
    """


@hookspec
def mscore_run_finished(run: "Run", error: BaseException | None) -> None:
    """Called when training has ended; ``error`` is what ended it, or None. Also called when it fails.

    Example: ``notify(run.directory, failed=error is not None)``
    """


def hook_names() -> list[str]:
    """Names of all hooks, in the order of this page."""
    return [name for name, value in globals().items() if _is_spec(value)]


def _is_spec(value: Any) -> bool:
    return getattr(value, f"{PROJECT}_spec", None) is not None
