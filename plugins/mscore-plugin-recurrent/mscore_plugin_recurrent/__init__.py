"""A small policy with memory for mscore, for any gymnasium observation and action space."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_recurrent.policy import RecurrentPolicy as RecurrentPolicy

_LAZY = {
    "RecurrentPolicy": "mscore_plugin_recurrent.policy",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_policies() -> dict[str, str]:
    """Register what this package provides."""
    return {
        "recurrent": "mscore_plugin_recurrent.policy:RecurrentPolicy",
    }


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
