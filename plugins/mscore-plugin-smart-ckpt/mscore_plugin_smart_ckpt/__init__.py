"""Checkpoints with their averaged twin, for mscore and plain Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_smart_ckpt.callback import SmartCheckpointCallback as SmartCheckpointCallback

_LAZY = {
    "SmartCheckpointCallback": "mscore_plugin_smart_ckpt.callback",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_callbacks() -> dict[str, str]:
    """Register what this package provides."""
    return {
        "smart-ckpt": "mscore_plugin_smart_ckpt.callback:SmartCheckpointCallback",
    }


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
