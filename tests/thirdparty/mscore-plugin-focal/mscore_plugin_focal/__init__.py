"""Focal loss for imitation, with a tiny policy and a step counter."""

from mscore import hookimpl

MSCORE_API = 1


@hookimpl
def mscore_objectives() -> dict[str, str]:
    """Register the objective."""
    return {"focal": "mscore_plugin_focal.objective:FocalLoss"}


@hookimpl
def mscore_policies() -> dict[str, str]:
    """Register the policy."""
    return {"tiny-mlp": "mscore_plugin_focal.policy:TinyMLP"}


@hookimpl
def mscore_callbacks() -> dict[str, str]:
    """Register the callback."""
    return {"step-counter": "mscore_plugin_focal.callback:StepCounter"}
