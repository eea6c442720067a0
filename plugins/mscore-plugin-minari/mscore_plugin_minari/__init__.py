"""Minari datasets for mscore."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_minari.datamodule import MinariDataModule as MinariDataModule

_LAZY = {"MinariDataModule": "mscore_plugin_minari.datamodule"}

__all__ = [*_LAZY]


@hookimpl
def mscore_datamodules() -> dict[str, str]:
    """Register the data module."""
    return {"minari": "mscore_plugin_minari.datamodule:MinariDataModule"}


@hookimpl
def mscore_recipes() -> str:
    """Register the recipes."""
    return "mscore_plugin_minari.recipes"


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
