"""Focal loss over the demonstrated actions."""

from typing import Annotated, Any

import torch
from annotated_types import Ge

from mscore import MinePolicy, ObjectiveCallback


class FocalLoss(ObjectiveCallback):
    """Behaviour cloning in which frames count less the more certain the policy is of them.

    A frame counts ``-(1 - p) ** gamma * log(p)``, p the probability of its action. The loss is the mean
    over the frames that ``mask`` (B, T) bool leaves in.

    Args:
        gamma: how much certain frames are discounted; 0 is behaviour cloning.
        weight: factor of the loss.

    Source: Lin et al. 2017, Focal loss for dense object detection.
    """

    needs_batch = frozenset({"agent_action"})
    needs_latents = frozenset({"pi_logits"})
    mean_over = "frames"

    def __init__(self, gamma: Annotated[float, Ge(0)] = 2.0, weight: float = 1.0) -> None:
        super().__init__()
        self.gamma = gamma
        self.weight = weight

    def __call__(
        self,
        batch: dict[str, Any],
        batch_idx: int,
        step_name: str,
        latents: dict[str, Any],
        mine_policy: MinePolicy,
    ) -> dict[str, torch.Tensor]:
        """Compute ``loss``, and ``confidence``: the mean probability of the demonstrated action."""
        logp = mine_policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"])
        valid = batch.get("mask", torch.ones_like(logp, dtype=torch.bool))
        count = valid.sum().clamp(min=1)
        # 1 - p through expm1: it keeps its digits where p is nearly 1, and its power a finite gradient.
        doubt = (-torch.expm1(logp)).clamp(min=1e-7)
        loss = (-(doubt**self.gamma) * logp).masked_fill(~valid, 0.0).sum() / count
        confidence = logp.detach().exp().masked_fill(~valid, 0.0).sum() / count
        return {"loss": loss * self.weight, "confidence": confidence}
