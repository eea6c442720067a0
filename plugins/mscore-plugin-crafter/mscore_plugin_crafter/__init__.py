"""Crafter for mscore: open-ended survival with 22 achievements, as an environment."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_crafter.environment import CrafterEnvironment as CrafterEnvironment

_LAZY = {"CrafterEnvironment": "mscore_plugin_crafter.environment"}

__all__ = [*_LAZY]


@hookimpl
def mscore_environments() -> dict[str, str]:
    """Register the environment."""
    return {"crafter": "mscore_plugin_crafter.environment:CrafterEnvironment"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
