"""Runs: from a config to a directory that holds everything, and from a directory to a policy.

Importing this package is cheap; what needs torch is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mscore.runs.exporting import export as export
    from mscore.runs.loading import load_policy as load_policy
    from mscore.runs.report import Report as Report
    from mscore.runs.training import RunResult as RunResult
    from mscore.runs.training import run as run

_LAZY = {
    "Report": "mscore.runs.report",
    "RunResult": "mscore.runs.training",
    "export": "mscore.runs.exporting",
    "load_policy": "mscore.runs.loading",
    "run": "mscore.runs.training",
}

__all__ = ["Report", "RunResult", "export", "load_policy", "run"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
