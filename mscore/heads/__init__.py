"""Action and value heads for gymnasium spaces, for every policy to use."""

from mscore.heads.action import (
    ActionHead,
    BernoulliHead,
    CategoricalHead,
    DictHead,
    GaussianHead,
    make_action_head,
)
from mscore.heads.value import EwmaNormalizer, ScaledMSEHead, make_value_head

__all__ = [
    "ActionHead",
    "BernoulliHead",
    "CategoricalHead",
    "DictHead",
    "EwmaNormalizer",
    "GaussianHead",
    "ScaledMSEHead",
    "make_action_head",
    "make_value_head",
]
