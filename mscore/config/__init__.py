"""Configs: YAML to a checked :class:`RunConfig`, and from there to components.

Checking goes in two passes. :func:`load_config` reads names and shape and imports neither torch nor a
plugin's implementation; :func:`check_parameters` imports the components that the config names and holds
their parameters against their constructors.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mscore.config.building import build as build
    from mscore.config.building import build_arguments as build_arguments
    from mscore.config.loading import load_config as load_config
    from mscore.config.model import Evaluation as Evaluation
    from mscore.config.model import RunConfig as RunConfig
    from mscore.config.model import Selection as Selection
    from mscore.config.model import Stage as Stage
    from mscore.config.schema import component_schema as component_schema
    from mscore.config.validation import all_selections as all_selections
    from mscore.config.validation import check_parameters as check_parameters

_LAZY = {
    "Evaluation": "model",
    "RunConfig": "model",
    "Selection": "model",
    "Stage": "model",
    "all_selections": "validation",
    "build": "building",
    "build_arguments": "building",
    "check_parameters": "validation",
    "component_schema": "schema",
    "load_config": "loading",
}

__all__ = sorted(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mscore.config' has no attribute {name!r}")
    value = getattr(import_module(f"mscore.config.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
