"""From frames to a Gaussian over goals: the video's (posterior) and the first frame's (prior)."""

import torch
from mscore_plugin_rocket import TokenTransformer
from torch import nn

Gaussian = dict[str, torch.Tensor]
"""``mu``, ``log_var`` and ``z``, (B, hiddim) float32 each."""


class LatentSpace(nn.Module):
    """Mean and logarithmic variance of a Gaussian, linear in a summary. Keys: ``encode_{mu,log_var}.*``.

    Args:
        hiddim: width of summary and Gaussian.
    """

    def __init__(self, hiddim: int) -> None:
        super().__init__()
        self.encode_mu = nn.Linear(hiddim, hiddim)
        self.encode_log_var = nn.Linear(hiddim, hiddim)

    def forward(self, x: torch.Tensor) -> Gaussian:
        """Summaries (B, hiddim) to Gaussians; ``z`` is drawn in training, and the mean otherwise."""
        mu, log_var = self.encode_mu(x).float(), self.encode_log_var(x).float()
        z = mu + torch.randn_like(mu) * (0.5 * log_var).exp() if self.training else mu
        return {"mu": mu, "log_var": log_var, "z": z}


class VideoEncoder(nn.Module):
    """A video's Gaussian: transformers over the places of each frame, and over the frames, without order.

    Keys: ``pooling.layers.{i}.*``, ``encode_video.layers.{i}.*``, ``encode_dist.*``.

    Args:
        hiddim: width of tokens and Gaussian.
        num_spatial_layers: layers over places.
        num_temporal_layers: layers over frames.
        num_heads: attention heads; must divide ``hiddim``.
        dropout: share of what is left out in training.
    """

    def __init__(
        self,
        hiddim: int,
        num_spatial_layers: int = 2,
        num_temporal_layers: int = 2,
        num_heads: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.pooling = TokenTransformer(hiddim, num_heads, num_spatial_layers, dropout)
        self.encode_video = TokenTransformer(hiddim, num_heads, num_temporal_layers, dropout)
        self.encode_dist = LatentSpace(hiddim)

    def forward(self, tokens: torch.Tensor) -> Gaussian:
        """Tokens of videos (B, T, L, hiddim) to Gaussians."""
        frames = self.pooling.pool(tokens.flatten(0, 1)).view(*tokens.shape[:2], -1)
        return self.encode_dist(self.encode_video.pool(frames))  # type: ignore[no-any-return]


class ImageEncoder(nn.Module):
    """A picture's Gaussian: transformers over its places. Keys: ``pooling.layers.{i}.*``, ``encode_dist.*``.

    Args:
        hiddim: width of tokens and Gaussian.
        num_layers: layers over places.
        num_heads: attention heads; must divide ``hiddim``.
        dropout: share of what is left out in training.
    """

    def __init__(self, hiddim: int, num_layers: int = 2, num_heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.pooling = TokenTransformer(hiddim, num_heads, num_layers, dropout)
        self.encode_dist = LatentSpace(hiddim)

    def forward(self, tokens: torch.Tensor) -> Gaussian:
        """Tokens of pictures (B, L, hiddim) to Gaussians."""
        return self.encode_dist(self.pooling.pool(tokens))  # type: ignore[no-any-return]
