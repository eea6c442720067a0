"""KL divergence objectives for mscore: between latent Gaussians, and from a frozen reference policy."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_kl.objective import KLDivergenceCallback as KLDivergenceCallback
    from mscore_plugin_kl.reference import ReferenceKLCallback as ReferenceKLCallback

_LAZY = {
    "KLDivergenceCallback": "mscore_plugin_kl.objective",
    "ReferenceKLCallback": "mscore_plugin_kl.reference",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_objectives() -> dict[str, str]:
    """Register what this package provides."""
    return {
        "kl": "mscore_plugin_kl.objective:KLDivergenceCallback",
        "reference-kl": "mscore_plugin_kl.reference:ReferenceKLCallback",
    }


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
