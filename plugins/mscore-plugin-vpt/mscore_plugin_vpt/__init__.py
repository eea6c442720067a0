"""VPT for mscore: the policy, its weights in every layout that people have, and blocks to build policies from."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import hookimpl

if TYPE_CHECKING:
    from mscore_plugin_vpt.image_trunk import ImgObsProcess as ImgObsProcess
    from mscore_plugin_vpt.image_trunk import ImpalaCNN as ImpalaCNN
    from mscore_plugin_vpt.layers import FanInInitReLULayer as FanInInitReLULayer
    from mscore_plugin_vpt.layers import FiLM as FiLM
    from mscore_plugin_vpt.network import VPTNetwork as VPTNetwork
    from mscore_plugin_vpt.openai_model import read_openai_model as read_openai_model
    from mscore_plugin_vpt.policy import VPTPolicy as VPTPolicy
    from mscore_plugin_vpt.policy import load_vpt_policy as load_vpt_policy
    from mscore_plugin_vpt.pretrained import PretrainedPolicy as PretrainedPolicy
    from mscore_plugin_vpt.pretrained import described_space as described_space
    from mscore_plugin_vpt.recurrent import ResidualRecurrentBlocks as ResidualRecurrentBlocks
    from mscore_plugin_vpt.saved_policy import SavedPolicy as SavedPolicy
    from mscore_plugin_vpt.saved_policy import read_saved_policy as read_saved_policy

_LAZY = {
    "FanInInitReLULayer": "mscore_plugin_vpt.layers",
    "FiLM": "mscore_plugin_vpt.layers",
    "ImgObsProcess": "mscore_plugin_vpt.image_trunk",
    "ImpalaCNN": "mscore_plugin_vpt.image_trunk",
    "PretrainedPolicy": "mscore_plugin_vpt.pretrained",
    "ResidualRecurrentBlocks": "mscore_plugin_vpt.recurrent",
    "SavedPolicy": "mscore_plugin_vpt.saved_policy",
    "VPTNetwork": "mscore_plugin_vpt.network",
    "VPTPolicy": "mscore_plugin_vpt.policy",
    "described_space": "mscore_plugin_vpt.pretrained",
    "load_vpt_policy": "mscore_plugin_vpt.policy",
    "read_openai_model": "mscore_plugin_vpt.openai_model",
    "read_saved_policy": "mscore_plugin_vpt.saved_policy",
}

__all__ = [*_LAZY]


@hookimpl
def mscore_policies() -> dict[str, str]:
    """Register the policy."""
    return {"vpt": "mscore_plugin_vpt.policy:VPTPolicy"}


@hookimpl
def mscore_recipes() -> str:
    """Register the recipes."""
    return "mscore_plugin_vpt.recipes"


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
