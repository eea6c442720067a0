"""Behaviour cloning for mscore: the negative log-likelihood of demonstrated actions."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_bc.objective import BehaviorCloneCallback as BehaviorCloneCallback

_LAZY = {
    "BehaviorCloneCallback": "mscore_plugin_bc.objective",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_objectives() -> dict[str, str]:
    """Register what this package provides."""
    return {
        "bc": "mscore_plugin_bc.objective:BehaviorCloneCallback",
    }


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
