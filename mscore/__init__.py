"""mscore: train policies from configuration files.

Everything that this module exports is the public API for plugins and scripts. Importing it is
cheap: names that need torch or Lightning are resolved on first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mscore import torchvision_ops
from mscore.hookspecs import hookimpl

__version__ = "0.1.0"

MSCORE_API = 1
"""Version of the plugin API. A plugin module may state the one it was written for."""

if TYPE_CHECKING:
    from mscore.config import RunConfig as RunConfig
    from mscore.config import build as build
    from mscore.contracts.averaging import AVERAGED_OF_KEY as AVERAGED_OF_KEY
    from mscore.contracts.averaging import AVERAGED_SUFFIX as AVERAGED_SUFFIX
    from mscore.contracts.averaging import AVERAGED_WEIGHTS_KEY as AVERAGED_WEIGHTS_KEY
    from mscore.contracts.averaging import AveragedWeights as AveragedWeights
    from mscore.contracts.averaging import averaged_twin as averaged_twin
    from mscore.contracts.averaging import find_averaged_weights as find_averaged_weights
    from mscore.contracts.averaging import is_averaged_twin as is_averaged_twin
    from mscore.contracts.environment import Environment as Environment
    from mscore.contracts.environment import EnvironmentId as EnvironmentId
    from mscore.contracts.environment import as_environment as as_environment
    from mscore.contracts.objective import ObjectiveCallback as ObjectiveCallback
    from mscore.contracts.policy import MinePolicy as MinePolicy
    from mscore.contracts.trainer import Run as Run
    from mscore.contracts.trainer import Trainer as Trainer
    from mscore.deprecation import MscoreDeprecationWarning as MscoreDeprecationWarning
    from mscore.deprecation import MscoreRemovedIn1Warning as MscoreRemovedIn1Warning
    from mscore.errors import ConfigError as ConfigError
    from mscore.errors import Interrupted as Interrupted
    from mscore.errors import MscoreError as MscoreError
    from mscore.errors import did_you_mean as did_you_mean
    from mscore.evaluation.callback import EvaluationCallback as EvaluationCallback
    from mscore.heads import make_action_head as make_action_head
    from mscore.heads import make_value_head as make_value_head
    from mscore.heads.spaces import NULL_CAMERA as NULL_CAMERA
    from mscore.heads.spaces import describe_space as describe_space
    from mscore.heads.spaces import is_minecraft as is_minecraft
    from mscore.heads.spaces import is_text as is_text
    from mscore.heads.spaces import minecraft_action_space as minecraft_action_space
    from mscore.heads.spaces import restore_space as restore_space
    from mscore.offline import MineLightning as MineLightning
    from mscore.offline import convert_to_normal as convert_to_normal
    from mscore.offline import random_state as random_state
    from mscore.offline.checkpoint_io import AtomicCheckpointIO as AtomicCheckpointIO
    from mscore.offline.memory import Memory as Memory
    from mscore.runs import load_policy as load_policy
    from mscore.runs import run as run
    from mscore.runs.weights import apply_weights as apply_weights
    from mscore.runs.weights import read_checkpoint as read_checkpoint
    from mscore.trajectories import IDLE as IDLE
    from mscore.trajectories import IDLE_EPISODE as IDLE_EPISODE
    from mscore.trajectories import BatchDataset as BatchDataset
    from mscore.trajectories import EpisodeBatchSampler as EpisodeBatchSampler
    from mscore.trajectories import ResumableDataModule as ResumableDataModule
    from mscore.trajectories import WindowBatchSampler as WindowBatchSampler
    from mscore.trajectories import WindowDataset as WindowDataset
    from mscore.trajectories import Windows as Windows
    from mscore.tree import tree_detach as tree_detach
    from mscore.tree import tree_leaves as tree_leaves
    from mscore.tree import tree_map as tree_map

_LAZY = {
    "AVERAGED_OF_KEY": "mscore.contracts.averaging",
    "AVERAGED_SUFFIX": "mscore.contracts.averaging",
    "AVERAGED_WEIGHTS_KEY": "mscore.contracts.averaging",
    "AtomicCheckpointIO": "mscore.offline.checkpoint_io",
    "AveragedWeights": "mscore.contracts.averaging",
    "BatchDataset": "mscore.trajectories",
    "ConfigError": "mscore.errors",
    "Environment": "mscore.contracts.environment",
    "EnvironmentId": "mscore.contracts.environment",
    "EpisodeBatchSampler": "mscore.trajectories",
    "EvaluationCallback": "mscore.evaluation.callback",
    "IDLE": "mscore.trajectories",
    "IDLE_EPISODE": "mscore.trajectories",
    "Interrupted": "mscore.errors",
    "Memory": "mscore.offline.memory",
    "MineLightning": "mscore.offline",
    "MinePolicy": "mscore.contracts.policy",
    "MscoreDeprecationWarning": "mscore.deprecation",
    "MscoreError": "mscore.errors",
    "MscoreRemovedIn1Warning": "mscore.deprecation",
    "NULL_CAMERA": "mscore.heads.spaces",
    "ObjectiveCallback": "mscore.contracts.objective",
    "ResumableDataModule": "mscore.trajectories",
    "Run": "mscore.contracts.trainer",
    "RunConfig": "mscore.config",
    "Trainer": "mscore.contracts.trainer",
    "WindowBatchSampler": "mscore.trajectories",
    "WindowDataset": "mscore.trajectories",
    "Windows": "mscore.trajectories",
    "apply_weights": "mscore.runs.weights",
    "as_environment": "mscore.contracts.environment",
    "averaged_twin": "mscore.contracts.averaging",
    "build": "mscore.config",
    "convert_to_normal": "mscore.offline",
    "describe_space": "mscore.heads.spaces",
    "did_you_mean": "mscore.errors",
    "find_averaged_weights": "mscore.contracts.averaging",
    "is_averaged_twin": "mscore.contracts.averaging",
    "is_minecraft": "mscore.heads.spaces",
    "is_text": "mscore.heads.spaces",
    "load_policy": "mscore.runs",
    "make_action_head": "mscore.heads",
    "make_value_head": "mscore.heads",
    "minecraft_action_space": "mscore.heads.spaces",
    "random_state": "mscore.offline",
    "read_checkpoint": "mscore.runs.weights",
    "restore_space": "mscore.heads.spaces",
    "run": "mscore.runs",
    "tree_detach": "mscore.tree",
    "tree_leaves": "mscore.tree",
    "tree_map": "mscore.tree",
}

_DEPRECATED: dict[str, str] = {}
"""Former public names, each with the one that takes its place: ``{"OldName": "mscore.NewName"}``."""

torchvision_ops.install()

__all__ = ["MSCORE_API", "__version__", "hookimpl", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name in _DEPRECATED:
        from mscore.deprecation import renamed

        return renamed(f"mscore.{name}", _DEPRECATED[name])
    if name not in _LAZY:
        raise AttributeError(f"module 'mscore' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
