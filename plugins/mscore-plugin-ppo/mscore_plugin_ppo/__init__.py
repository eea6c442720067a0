"""Online training for mscore: proximal policy optimization, from scratch or from a policy that was cloned."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_ppo.cluster.manager import RayRolloutManager as RayRolloutManager
    from mscore_plugin_ppo.policy import MLPPolicy as MLPPolicy
    from mscore_plugin_ppo.rollouts.manager import LocalRolloutManager as LocalRolloutManager
    from mscore_plugin_ppo.trainers.base import BaseTrainer as BaseTrainer
    from mscore_plugin_ppo.trainers.ppo import PPOTrainer as PPOTrainer
    from mscore_plugin_ppo.trainers.start import start_trainer as start_trainer

_LAZY = {
    "BaseTrainer": "mscore_plugin_ppo.trainers.base",
    "LocalRolloutManager": "mscore_plugin_ppo.rollouts.manager",
    "MLPPolicy": "mscore_plugin_ppo.policy",
    "PPOTrainer": "mscore_plugin_ppo.trainers.ppo",
    "RayRolloutManager": "mscore_plugin_ppo.cluster.manager",
    "start_trainer": "mscore_plugin_ppo.trainers.start",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_trainers() -> dict[str, str]:
    """Register the trainer."""
    return {"ppo": "mscore_plugin_ppo.adapter:PPO"}


@hookimpl
def mscore_policies() -> dict[str, str]:
    """Register the policy without memory."""
    return {"mlp": "mscore_plugin_ppo.policy:MLPPolicy"}


@hookimpl
def mscore_recipes() -> str:
    """Register the recipes."""
    return "mscore_plugin_ppo.recipes"


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
