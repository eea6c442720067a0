"""Training speed, data wait and peak memory, for mscore and plain Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_speed_monitor.callback import SpeedMonitorCallback as SpeedMonitorCallback

_LAZY = {
    "SpeedMonitorCallback": "mscore_plugin_speed_monitor.callback",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_callbacks() -> dict[str, str]:
    """Register what this package provides."""
    return {
        "speed-monitor": "mscore_plugin_speed_monitor.callback:SpeedMonitorCallback",
    }


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
