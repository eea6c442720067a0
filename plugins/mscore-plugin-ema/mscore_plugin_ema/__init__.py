"""Exponential moving average of the trained weights, for mscore and plain Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_ema.callback import EMA as EMA
    from mscore_plugin_ema.optimizer import EMAOptimizer as EMAOptimizer
    from mscore_plugin_ema.optimizer import ema_update as ema_update
    from mscore_plugin_ema.optimizer import run_ema_update_cpu as run_ema_update_cpu

_LAZY = {
    "EMA": "mscore_plugin_ema.callback",
    "EMAOptimizer": "mscore_plugin_ema.optimizer",
    "ema_update": "mscore_plugin_ema.optimizer",
    "run_ema_update_cpu": "mscore_plugin_ema.optimizer",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_callbacks() -> dict[str, str]:
    """Register what this package provides."""
    return {
        "ema": "mscore_plugin_ema.callback:EMA",
    }


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
