"""Versions of a policy: what a trainer hands to those who act for it."""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Number = TypeVar("Number", bound=Any)


@dataclass(frozen=True)
class ValueScale:
    """In what units value estimates are: an estimate v means ``v * deviation + mean`` of return."""

    mean: float = 0.0
    deviation: float = 1.0

    def denormalized(self, value: Number) -> Number:
        """Estimates in the returns' units."""
        if self.mean == 0.0 and self.deviation == 1.0:
            return value
        result: Number = value * self.deviation + self.mean
        return result

    def normalized(self, value: Number) -> Number:
        """Returns in the estimates' units."""
        if self.mean == 0.0 and self.deviation == 1.0:
            return value
        result: Number = (value - self.mean) / self.deviation
        return result


@dataclass(frozen=True)
class ModelVersion:
    """Weights with what they are called: one message, so that a label never belongs to other weights.

    Attributes:
        session: the training that they belong to.
        version: counts up from 1 in a session.
        weights: the policy's ``state_dict``.
        value_scale: of the policy's value estimates.
    """

    session: str
    version: int
    weights: dict[str, torch.Tensor]
    value_scale: ValueScale = ValueScale()
