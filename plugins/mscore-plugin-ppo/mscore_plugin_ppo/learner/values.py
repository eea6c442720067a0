"""Value estimates in normalized units, without a jump when the units change."""

from typing import Any

import torch

from mscore import MinePolicy, MscoreError
from mscore_plugin_ppo.rollouts.versions import ValueScale


class ValueNormalizer:
    """Keeps the scale of a policy's value estimates.

    Where values are normalized, the scale is that of the value head's ``normalizer``, updated once with every
    iteration's targets; the head's layer is corrected each time so that it goes on to mean the same returns
    (PopArt, van Hasselt et al. 2016). Else estimates are in the returns' units.

    Args:
        policy: its value head has a ``linear`` layer and a ``normalizer``, as the heads of mscore have.
        enabled: False leaves everything as it is.

    Raises:
        MscoreError: the value head cannot be normalized.
    """

    def __init__(self, policy: MinePolicy, enabled: bool) -> None:
        self._head: Any = policy.value_head
        self.enabled = enabled
        if enabled and not (hasattr(self._head, "normalizer") and hasattr(self._head, "linear")):
            raise MscoreError(
                f"use_normalized_vf: the value head of {type(policy).__name__} ({type(self._head).__name__}) has no "
                "`normalizer` and `linear`; use mscore.make_value_head, or use_normalized_vf: false"
            )

    @property
    def scale(self) -> ValueScale:
        """The units of the head's estimates."""
        if not self.enabled:
            return ValueScale()
        mean, variance = self._head.normalizer.statistics()
        return ValueScale(float(mean), float(variance.sqrt()))

    @torch.no_grad()
    def update(self, targets: torch.Tensor) -> None:
        """Take the targets of an iteration into the scale, (B, T) in the returns' units."""
        if not self.enabled:
            return
        before = self.scale
        normalizer, layer = self._head.normalizer, self._head.linear
        was_training = normalizer.training
        normalizer.train()
        normalizer(targets.unsqueeze(-1))
        normalizer.train(was_training)
        after = self.scale
        layer.weight.mul_(before.deviation / after.deviation)
        layer.bias.mul_(before.deviation).add_(before.mean - after.mean).div_(after.deviation)

    @torch.no_grad()
    def begin_at_zero(self) -> None:
        """Let estimates be 0 in the returns' units, whatever the head was trained to before; the scale stays."""
        layer = getattr(self._head, "linear", self._head)
        for parameter in layer.parameters():
            parameter.zero_()
        if self.enabled:
            layer.bias.sub_(self.scale.mean / self.scale.deviation)
