"""For tests of plugins: a conformance kit, and parts small enough to check by hand.

In a plugin's test suite::

    from mscore.testing import conformance

    test_conformance = conformance("mscore-plugin-focal", samples={"objective/focal": {"gamma": 2.0}})

Names are imported on first use, as ``mscore plugins check`` needs neither pytest nor, to begin with, torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mscore.testing.checks import CheckFailed as CheckFailed
    from mscore.testing.checks import Outcome as Outcome
    from mscore.testing.collection import check_plugin as check_plugin
    from mscore.testing.isolation import isolated_plugins as isolated_plugins
    from mscore.testing.pytest_items import conformance as conformance
    from mscore.testing.subjects import Sample as Sample
    from mscore.testing.tiny import TinyDataModule as TinyDataModule
    from mscore.testing.tiny import TinyEnvironment as TinyEnvironment
    from mscore.testing.tiny import TinyObjective as TinyObjective
    from mscore.testing.tiny import TinyPolicy as TinyPolicy
    from mscore.testing.tiny import tiny_batch as tiny_batch

_LAZY = {
    "CheckFailed": "checks",
    "Outcome": "checks",
    "Sample": "subjects",
    "TinyDataModule": "tiny",
    "TinyEnvironment": "tiny",
    "TinyObjective": "tiny",
    "TinyPolicy": "tiny",
    "check_plugin": "collection",
    "conformance": "pytest_items",
    "isolated_plugins": "isolation",
    "tiny_batch": "tiny",
}

__all__ = [*_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mscore.testing' has no attribute {name!r}")
    value = getattr(import_module(f"mscore.testing.{_LAZY[name]}"), name)
    globals()[name] = value
    return value
