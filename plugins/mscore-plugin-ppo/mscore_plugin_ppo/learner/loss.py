"""The clipped surrogate loss of PPO (Schulman et al. 2017)."""

import math
from dataclasses import dataclass
from typing import Any

import torch

from mscore import MinePolicy
from mscore_plugin_ppo.rollouts.versions import ValueScale

ADVANTAGES, TARGETS, OLD_LOGPS, OLD_VPREDS = "advantages", "td_targets", "old_logps", "old_vpreds"
"""Keys of a batch of fragments beside those of the contract, each (B, T) float32. Advantages are as the loss
uses them; targets and values are in the returns' units."""


@dataclass(frozen=True)
class LossSettings:
    """What the loss is made of.

    Attributes:
        ppo_clip: how far the probability ratio may move before its gradient ends.
        clip_vloss: clip the value estimate's move by ``ppo_clip`` too, in the estimate's units.
        ppo_vf_coef: weight of the value loss.
        ppo_policy_coef: weight of the policy loss.
        entropy_bonus_coef: weight of the entropy bonus.
        log_ratio_range: the logarithm of the ratio is cut off above this.
    """

    ppo_clip: float = 0.2
    clip_vloss: bool = False
    ppo_vf_coef: float = 0.5
    ppo_policy_coef: float = 1.0
    entropy_bonus_coef: float = 0.0
    log_ratio_range: float = 50.0


def ppo_loss(
    settings: LossSettings,
    policy: MinePolicy,
    latents: dict[str, Any],
    batch: dict[str, Any],
    scale: ValueScale,
    *,
    whole: bool,
    values_only: bool = False,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a minibatch, and its parts.

    Args:
        settings: its weights.
        policy: its action head reads the logits.
        latents: ``pi_logits`` and ``vpred`` of the batch.
        batch: with ``agent_action``, ``mask`` and the keys of this module.
        scale: the units of ``vpred``.
        whole: every step is valid, so that the mask need not be looked at.
        values_only: train the value estimates alone.

    Returns:
        The loss, and the detached parts by name.
    """
    mask = None if whole else batch["mask"]
    estimate = latents["vpred"].squeeze(-1)
    value = _mean(_value_loss(settings, estimate, batch, scale), mask)
    terms = {"value_loss": value.detach()}
    loss = settings.ppo_vf_coef * value
    if values_only:
        return loss, terms
    logits = latents["pi_logits"]
    logp = policy.pi_head.logprob(batch["agent_action"], logits)
    advantage, log_ratio = batch[ADVANTAGES], logp - batch[OLD_LOGPS]
    ratio = log_ratio.clamp(max=settings.log_ratio_range).exp()
    clipped = ratio.clamp(1.0 - settings.ppo_clip, 1.0 + settings.ppo_clip)
    surrogate = _mean(torch.minimum(ratio * advantage, clipped * advantage), mask)
    loss = loss - settings.ppo_policy_coef * surrogate
    terms["policy_loss"] = -surrogate.detach()
    if settings.entropy_bonus_coef:
        entropy = _mean(policy.pi_head.entropy(logits), mask)
        loss = loss - settings.entropy_bonus_coef * entropy
        terms["entropy"] = entropy.detach()
    return loss, terms


@torch.no_grad()
def diagnostics(
    settings: LossSettings, policy: MinePolicy, latents: dict[str, Any], batch: dict[str, Any]
) -> dict[str, torch.Tensor]:
    """How far the policy has moved since it acted: what one looks at when training goes wrong.

    Returns:
        ``entropy``, ``approx_kl`` (the estimate k3 of Schulman 2020) and ``clip_fraction``, 0-d.
    """
    mask, logits = batch["mask"], latents["pi_logits"]
    log_ratio = policy.pi_head.logprob(batch["agent_action"], logits) - batch[OLD_LOGPS]
    # The ratio's bounds in logarithms, which cannot overflow.
    low = math.log1p(-settings.ppo_clip) if settings.ppo_clip < 1 else -math.inf
    outside = (log_ratio > math.log1p(settings.ppo_clip)) | (log_ratio < low)
    return {
        "entropy": _mean(policy.pi_head.entropy(logits), mask),
        "approx_kl": _mean(log_ratio.expm1() - log_ratio, mask),
        "clip_fraction": _mean(outside.float(), mask),
    }


def _value_loss(
    settings: LossSettings, estimate: torch.Tensor, batch: dict[str, Any], scale: ValueScale
) -> torch.Tensor:
    target = scale.normalized(batch[TARGETS])
    error: torch.Tensor = (estimate - target).square()
    if settings.clip_vloss:
        old = scale.normalized(batch[OLD_VPREDS])
        near = old + (estimate - old).clamp(-settings.ppo_clip, settings.ppo_clip)
        error = torch.maximum(error, (near - target).square())
    return 0.5 * error


def _mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is None:
        return values.mean()
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
