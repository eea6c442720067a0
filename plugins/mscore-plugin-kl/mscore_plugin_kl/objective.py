"""KL divergence between two Gaussian latents, such as a posterior and a prior."""

from typing import Any

import torch

from mscore import MinePolicy, ObjectiveCallback


class KLDivergenceCallback(ObjectiveCallback):
    """KL(posterior || prior) of two diagonal Gaussians that the policy returns among its latents.

    ``latents["posterior_dist"]`` and ``latents["prior_dist"]`` are dicts of ``mu`` and ``log_var`` (the
    logarithm of the variance), (B, D) for one latent per window or (B, T, D) for one per frame. The
    divergence is summed over D and averaged over the rows (frames, for (B, T, D)). Where the batch has a
    ``mask`` (B, T) bool, rows without a valid frame (frames that are not valid) do not count.

    Logged: ``loss``, ``kl_div`` (nats, without the weight) and ``kl_weight``.

    Args:
        weight: factor of the loss.

    Source: ``minestudio.offline.mine_callbacks.KLDivergenceCallback``; Cai et al. 2023 (GROOT).
    """

    needs_latents = frozenset({"posterior_dist", "prior_dist"})

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def __call__(
        self,
        batch: dict[str, Any],
        batch_idx: int,
        step_name: str,
        latents: dict[str, Any],
        mine_policy: MinePolicy,
    ) -> dict[str, torch.Tensor | float]:
        """Compute the loss, and the terms that the class lists."""
        posterior, prior = latents["posterior_dist"], latents["prior_dist"]
        divergence = self.kl_divergence(posterior["mu"], posterior["log_var"], prior["mu"], prior["log_var"])
        mask: torch.Tensor | None = batch.get("mask")
        if mask is None:
            mean = divergence.mean()
        else:
            valid = mask.bool() if divergence.ndim > 1 else mask.bool().any(-1)
            mean = divergence.masked_fill(~valid, 0.0).sum() / valid.sum().clamp(min=1)
        return {"loss": mean * self.weight, "kl_div": mean.detach(), "kl_weight": self.weight}

    def kl_divergence(
        self, q_mu: torch.Tensor, q_log_var: torch.Tensor, p_mu: torch.Tensor, p_log_var: torch.Tensor
    ) -> torch.Tensor:
        """KL(q || p) of diagonal Gaussians, in float32 whatever the inputs are.

        Args:
            q_mu: mean of q, (B, D) or (B, T, D).
            q_log_var: logarithm of q's variance, of the same shape.
            p_mu: mean of p, of the same shape.
            p_log_var: logarithm of p's variance, of the same shape.

        Returns:
            The divergence in nats, (B,) or (B, T).
        """
        q_mu, q_log_var, p_mu, p_log_var = (x.float() for x in (q_mu, q_log_var, p_mu, p_log_var))
        difference = q_log_var - p_log_var
        # expm1 keeps the digits that exp(d) - 1 loses where the variances are nearly equal.
        variances = torch.expm1(difference) - difference
        # (q_mu - p_mu)^2 / p_var, the root of 1 / p_var applied in two halves: neither 1 / p_var nor its
        # root overflows where the quotient itself is finite.
        half = (p_log_var * -0.25).clamp(max=_LARGEST_EXPONENT).exp()
        means = ((q_mu - p_mu) * half * half).square()
        return 0.5 * (variances + means).sum(-1)


_LARGEST_EXPONENT = 88.0
"""exp of it is the last that float32 holds; beyond, only equal means have a finite divergence."""
