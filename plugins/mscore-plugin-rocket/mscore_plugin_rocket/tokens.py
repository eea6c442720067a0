"""Transformers over the tokens of pictures."""

import torch
from torch import nn


class TokenTransformer(nn.TransformerEncoder):
    """Transformer layers over tokens, whose mean may be the picture's summary.

    Torch's own layers, as MineStudio's policies have them: normalization behind the additions, ReLU, a
    perceptron twice as wide, and no positions. Keys: ``layers.{i}.*``.

    Args:
        hiddim: width of a token.
        num_heads: attention heads; must divide ``hiddim``.
        num_layers: number of layers.
        dropout: share of what is left out in training.
    """

    def __init__(self, hiddim: int, num_heads: int = 8, num_layers: int = 2, dropout: float = 0.1) -> None:
        layer = nn.TransformerEncoderLayer(
            hiddim, num_heads, dim_feedforward=2 * hiddim, dropout=dropout, batch_first=True
        )
        super().__init__(layer, num_layers, enable_nested_tensor=False)

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (N, L, hiddim) to the mean of what the layers make of them, (N, hiddim)."""
        return self(tokens).mean(dim=1)  # type: ignore[no-any-return]
