"""The value head: a scalar estimate in normalized units, as VPT trains it."""

import torch
import torch.nn.functional as F
from torch import nn


class EwmaNormalizer(nn.Module):
    """Normalizes targets by a debiased exponentially weighted mean and variance.

    The statistics are parameters without gradient (as in VPT's checkpoints), updated in training mode.

    Args:
        shape: size of the last dimension.
        beta: decay per update.
        epsilon: least debiasing term.
    """

    MIN_VARIANCE = 1e-2

    def __init__(self, shape: int = 1, beta: float = 0.99999, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.beta = beta
        self.epsilon = epsilon
        self.running_mean = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.running_mean_sq = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.debiasing_term = nn.Parameter(torch.tensor(0.0), requires_grad=False)

    def statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Debiased mean and variance, each (shape,)."""
        debias = self.debiasing_term.clamp(min=self.epsilon)
        mean = self.running_mean / debias
        variance = (self.running_mean_sq / debias - mean.square()).clamp(min=self.MIN_VARIANCE)
        return mean, variance

    def forward(self, target: torch.Tensor) -> torch.Tensor:
        """Normalize targets (B, T, shape); in training mode update the statistics with them first."""
        target = target.to(self.running_mean)
        if self.training:
            detached = target.detach()
            one = torch.ones_like(self.debiasing_term)
            updates = [detached.mean((0, 1)), detached.square().mean((0, 1)), one]
            kept = [self.running_mean, self.running_mean_sq, self.debiasing_term]
            with torch.no_grad():
                for value, update in zip(kept, updates, strict=True):
                    value.lerp_(update, 1 - self.beta)
                    if torch.distributed.is_available() and torch.distributed.is_initialized():
                        torch.distributed.all_reduce(value)
                        value.div_(torch.distributed.get_world_size())
        mean, variance = self.statistics()
        return (target - mean) / variance.sqrt()

    def denormalize(self, value: torch.Tensor) -> torch.Tensor:
        """Normalized values back to the targets' units."""
        mean, variance = self.statistics()
        return value * variance.sqrt() + mean


class ScaledMSEHead(nn.Module):
    """A linear value estimate in normalized units, trained by squared error.

    Args:
        hiddim: width of the latents.
        size: number of values.
    """

    def __init__(self, hiddim: int, size: int = 1) -> None:
        super().__init__()
        self.linear = nn.Linear(hiddim, size)
        self.normalizer = EwmaNormalizer(size)

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Latents (B, T, hiddim) to normalized values (B, T, size)."""
        return self.linear(latent)  # type: ignore[no-any-return]

    def loss(self, prediction: torch.Tensor, target: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
        """Squared error against normalized targets.

        Args:
            prediction: (B, T, size), normalized.
            target: (B, T, size), in the returns' units.
            reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        """
        return F.mse_loss(prediction, self.normalizer(target), reduction=reduction)

    def normalize(self, value: torch.Tensor) -> torch.Tensor:
        """Values (B, T, size) in the returns' units to normalized ones."""
        return self.normalizer(value)  # type: ignore[no-any-return]

    def denormalize(self, value: torch.Tensor) -> torch.Tensor:
        """Normalized values (B, T, size) to the returns' units."""
        return self.normalizer.denormalize(value)


def make_value_head(hiddim: int) -> ScaledMSEHead:
    """The value head that a policy carries: one value in normalized units."""
    return ScaledMSEHead(hiddim)
