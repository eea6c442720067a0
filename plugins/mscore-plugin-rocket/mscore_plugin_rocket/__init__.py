"""ROCKET-1 for mscore, and pretrained timm backbones for policies to build on."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_rocket.backbone import create_backbone as create_backbone
    from mscore_plugin_rocket.backbone_policy import BackbonePolicy as BackbonePolicy
    from mscore_plugin_rocket.feature_cache import FeatureCache as FeatureCache
    from mscore_plugin_rocket.policy import RocketPolicy as RocketPolicy
    from mscore_plugin_rocket.policy import load_rocket_policy as load_rocket_policy
    from mscore_plugin_rocket.tokens import TokenTransformer as TokenTransformer

_LAZY = {
    "BackbonePolicy": "mscore_plugin_rocket.backbone_policy",
    "FeatureCache": "mscore_plugin_rocket.feature_cache",
    "RocketPolicy": "mscore_plugin_rocket.policy",
    "TokenTransformer": "mscore_plugin_rocket.tokens",
    "create_backbone": "mscore_plugin_rocket.backbone",
    "load_rocket_policy": "mscore_plugin_rocket.policy",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_policies() -> dict[str, str]:
    """Register the policy."""
    return {"rocket": "mscore_plugin_rocket.policy:RocketPolicy"}


@hookimpl
def mscore_recipes() -> str:
    """Register the recipes."""
    return "mscore_plugin_rocket.recipes"


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
