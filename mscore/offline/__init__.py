"""The built-in trainer: imitation from data on Lightning, with memory, metrics and resume."""

from mscore.offline.module import MineLightning
from mscore.offline.plain_config import convert_to_normal
from mscore.tree import tree_detach

__all__ = ["MineLightning", "convert_to_normal", "tree_detach"]
