"""MineStudio for mscore: its trajectory data, read, written and converted, and its simulator."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_minestudio.datamodule import MineDataModule as MineDataModule
    from mscore_plugin_minestudio.simulation.environment import MineStudioEnvironment as MineStudioEnvironment
    from mscore_plugin_minestudio.writing.writer import DatasetWriter as DatasetWriter

_LAZY = {
    "DatasetWriter": "mscore_plugin_minestudio.writing.writer",
    "MineDataModule": "mscore_plugin_minestudio.datamodule",
    "MineStudioEnvironment": "mscore_plugin_minestudio.simulation.environment",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_datamodules() -> dict[str, str]:
    """Register the data module."""
    return {"minestudio": "mscore_plugin_minestudio.datamodule:MineDataModule"}


@hookimpl
def mscore_environments() -> dict[str, str]:
    """Register the environment."""
    return {"minestudio": "mscore_plugin_minestudio.simulation.environment:MineStudioEnvironment"}


@hookimpl
def mscore_recipes() -> str:
    """Register the recipes."""
    return "mscore_plugin_minestudio.recipes"


@hookimpl
def mscore_commands() -> dict[str, str]:
    """Register the commands."""
    return {
        "data convert": "mscore_plugin_minestudio.commands.convert:convert",
        "data inspect": "mscore_plugin_minestudio.commands.inspect:inspect",
        "data transcode": "mscore_plugin_minestudio.commands.transcode:transcode",
        "data view": "mscore_plugin_minestudio.commands.view:view",
    }


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
