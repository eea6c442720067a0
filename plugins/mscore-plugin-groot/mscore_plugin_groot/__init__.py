"""GROOT for mscore: a policy that does what a reference video shows."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_groot.encoders import ImageEncoder as ImageEncoder
    from mscore_plugin_groot.encoders import LatentSpace as LatentSpace
    from mscore_plugin_groot.encoders import VideoEncoder as VideoEncoder
    from mscore_plugin_groot.policy import GrootPolicy as GrootPolicy
    from mscore_plugin_groot.policy import load_groot_policy as load_groot_policy
    from mscore_plugin_groot.video import read_reference as read_reference

_LAZY = {
    "GrootPolicy": "mscore_plugin_groot.policy",
    "ImageEncoder": "mscore_plugin_groot.encoders",
    "LatentSpace": "mscore_plugin_groot.encoders",
    "VideoEncoder": "mscore_plugin_groot.encoders",
    "load_groot_policy": "mscore_plugin_groot.policy",
    "read_reference": "mscore_plugin_groot.video",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_policies() -> dict[str, str]:
    """Register the policy."""
    return {"groot": "mscore_plugin_groot.policy:GrootPolicy"}


@hookimpl
def mscore_recipes() -> str:
    """Register the recipes."""
    return "mscore_plugin_groot.recipes"


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
