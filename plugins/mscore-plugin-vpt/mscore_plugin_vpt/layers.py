"""The unit that VPT is built from, and how its weights begin."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn


def scale_filters(weight: torch.Tensor, norm: float) -> None:
    """Scale each filter (row) of a weight in place to an L2 norm, as VPT initializes its layers."""
    with torch.no_grad():
        weight.mul_(norm / weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1)))


def run(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``layer(x)``, for linear layers and LayerNorms without what the call of a module costs.

    While acting these calls take longer than what small layers compute. A layer with hooks, or of a type of its own
    (quantized, parametrized, adapted), is called as any other.
    """
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        return layer(x)  # type: ignore[no-any-return]
    if type(layer) is nn.Linear:
        return F.linear(x, layer.weight, layer.bias)
    if type(layer) is nn.LayerNorm:
        return F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps)
    return layer(x)  # type: ignore[no-any-return]


class FanInInitReLULayer(nn.Module):
    """Normalization of the input, a linear or convolutional layer, ReLU.

    The layer has a bias only where there is no normalization. Its filters begin with an L2 norm of
    ``init_scale``, its bias with zeros. Keys: ``norm.*``, ``layer.weight``, ``layer.bias``.

    Args:
        inchan: channels of the input.
        outchan: channels of the output.
        layer_type: ``"conv"`` or ``"linear"``.
        init_scale: L2 norm of each filter at the beginning.
        batch_norm: normalize with BatchNorm2d.
        group_norm_groups: normalize with GroupNorm of so many groups.
        layer_norm: normalize with LayerNorm. Of the three the first that is asked for is taken.
        use_activation: apply the ReLU.
        layer_kwargs: further arguments of the layer, such as ``kernel_size`` and ``padding``.

    Source: ``FanInInitReLULayer`` of VPT (Baker et al. 2022).
    """

    def __init__(
        self,
        inchan: int,
        outchan: int,
        layer_type: Literal["conv", "linear"] = "conv",
        init_scale: float = 1.0,
        batch_norm: bool = False,
        group_norm_groups: int | None = None,
        layer_norm: bool = False,
        use_activation: bool = True,
        **layer_kwargs: Any,
    ) -> None:
        super().__init__()
        self.use_activation = use_activation
        self.norm: nn.Module | None = None
        if batch_norm:
            self.norm = nn.BatchNorm2d(inchan)
        elif group_norm_groups is not None:
            self.norm = nn.GroupNorm(group_norm_groups, inchan)
        elif layer_norm:
            self.norm = nn.LayerNorm(inchan)
        kind = nn.Conv2d if layer_type == "conv" else nn.Linear
        self.layer = kind(inchan, outchan, bias=self.norm is None, **layer_kwargs)
        scale_filters(self.layer.weight, init_scale)
        if self.layer.bias is not None:
            nn.init.zeros_(self.layer.bias)

    def before_activation(self, x: torch.Tensor) -> torch.Tensor:
        """Normalization and layer without the ReLU, for a ReLU that is cheaper elsewhere."""
        if self.norm is not None:
            x = run(self.norm, x)
        return run(self.layer, x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inchan, H, W) or (…, inchan) to the same with ``outchan``."""
        x = self.before_activation(x)
        # In place: no backward needs a layer's output from before the ReLU.
        return x.relu_() if self.use_activation else x


def dense_norm(init_norm_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The normalization of dense units where convolutions have that of ``init_norm_kwargs``.

    LayerNorm takes the place of GroupNorm and BatchNorm; without either there is none.
    """
    groups, batch = init_norm_kwargs.get("group_norm_groups"), init_norm_kwargs.get("batch_norm", False)
    rest = {key: value for key, value in init_norm_kwargs.items() if key not in ("group_norm_groups", "batch_norm")}
    return {**rest, "layer_norm": True} if groups is not None or batch else rest


class FiLM(nn.Module):
    """Scales and shifts features by a condition, and normalizes the result (Perez et al. 2018).

    The condition c first goes through a residual layer, c' = c + W2 gelu(W1 LN(c)); then
    ``LN(x * (1 + gamma) + beta)`` with gamma and beta linear in c'.

    Args:
        hidsize: width of features and condition.

    Source: ``FiLMBlock`` of MineStudio.
    """

    def __init__(self, hidsize: int) -> None:
        super().__init__()
        self.fc = nn.Linear(hidsize, 2 * hidsize)
        self.ff = nn.Sequential(
            nn.LayerNorm(hidsize),
            nn.Linear(hidsize, 2 * hidsize, bias=False),
            nn.GELU(),
            nn.Linear(2 * hidsize, hidsize, bias=False),
        )
        self.norm = nn.LayerNorm(hidsize)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Features and conditions, (…, hidsize) both, to features (…, hidsize)."""
        gamma, beta = self.fc(condition + self.ff(condition)).chunk(2, dim=-1)
        return self.norm(torch.addcmul(x + beta, x, gamma))  # type: ignore[no-any-return]
