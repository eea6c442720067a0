"""MiniGrid and BabyAI for mscore: environments, demonstrations by the expert bot, the demo recipe."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_minigrid.datamodule import MiniGridDataModule as MiniGridDataModule
    from mscore_plugin_minigrid.environment import MiniGridEnvironment as MiniGridEnvironment

_LAZY = {
    "MiniGridDataModule": "mscore_plugin_minigrid.datamodule",
    "MiniGridEnvironment": "mscore_plugin_minigrid.environment",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_environments() -> dict[str, str]:
    """Register the environment."""
    return {"minigrid": "mscore_plugin_minigrid.environment:MiniGridEnvironment"}


@hookimpl
def mscore_datamodules() -> dict[str, str]:
    """Register the demonstrations."""
    return {"minigrid": "mscore_plugin_minigrid.datamodule:MiniGridDataModule"}


@hookimpl
def mscore_recipes() -> str:
    """Register the recipes."""
    return "mscore_plugin_minigrid.recipes"


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
