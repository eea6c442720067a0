"""EfficientNet's normalization and gating with less memory in training on a CPU; its convolutions are next door.

Autograd keeps a tensor between batch normalization and SiLU, and makes several on the way back, each as large
as the feature map. On a CPU that is what such a network's training waits for: fresh pages, and traffic. Here
normalization and SiLU are one step that keeps its input alone and goes through it in pieces that stay in
the cache; so are a gate's mean, layers and product. Results are timm's up to rounding.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import nn
from torch.autograd.function import once_differentiable

from mscore_plugin_rocket.lean_convolutions import lean_convolution, trains_here

BYTES_AT_ONCE = 2**19
"""Size of a piece, for each thread."""


def make_lean(network: nn.Module) -> None:
    """Let a network's layers save memory in training where they can; weights and their names stay."""
    for module in network.modules():
        if type(module) is BatchNormAct2d and _is_plain(module):
            module.__class__ = LeanBatchNormSiLU
        elif type(module) is SqueezeExcite and _gates_plainly(module):
            module.__class__ = LeanSqueezeExcite
        elif (kind := lean_convolution(module)) is not None:
            module.__class__ = kind


def _is_plain(module: BatchNormAct2d) -> bool:
    tracked = module.track_running_stats and module.momentum is not None and module.affine
    return tracked and isinstance(module.act, nn.SiLU) and isinstance(module.drop, nn.Identity)


def _gates_plainly(module: SqueezeExcite) -> bool:
    biased = module.conv_reduce.bias is not None and module.conv_expand.bias is not None
    return biased and isinstance(module.act1, nn.SiLU) and type(module.gate).__name__ == "Sigmoid"


class LeanBatchNormSiLU(BatchNormAct2d):
    """timm's batch normalization with SiLU, see the module's documentation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same."""
        if not trains_here(self, x, self.weight):
            return super().forward(x)  # type: ignore[no-any-return,no-untyped-call]
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        with torch.no_grad():
            mean, variance = torch.batch_norm_update_stats(x, self.running_mean, self.running_var, self.momentum)
        rstd = torch.rsqrt(variance + self.eps)
        return _NormSiLU.apply(x, self.weight, self.bias, mean, rstd)  # type: ignore[no-any-return,no-untyped-call]


class LeanSqueezeExcite(SqueezeExcite):
    """timm's gate by the mean of each channel, see the module's documentation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to the same."""
        reduce, expand = self.conv_reduce, self.conv_expand
        if not trains_here(self, x, reduce.weight):
            return super().forward(x)  # type: ignore[no-any-return,no-untyped-call]
        weights = (reduce.weight.flatten(1), reduce.bias, expand.weight.flatten(1), expand.bias)
        return _Gate.apply(x, *weights)  # type: ignore[no-any-return,no-untyped-call]


class _NormSiLU(torch.autograd.Function):
    """Normalization by given statistics of the batch, then SiLU; the gradient goes through the statistics."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        scale = weight * rstd
        shift = bias - mean * scale
        y = torch.empty_like(x)
        for piece, out in _pieces(x, y):
            torch.addcmul(shift, piece, scale, out=out)
            F.silu(out, inplace=True)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        scale = weight * rstd
        dx = torch.empty_like(x)
        sum_dz, sum_dz_x = torch.zeros_like(mean), torch.zeros_like(mean)
        for piece, grad, out in _pieces(x, dy, dx):
            centred = piece - mean
            torch.ops.aten.silu_backward.grad_input(grad, torch.addcmul(bias, centred, scale), grad_input=out)
            sum_dz += out.sum(0)
            sum_dz_x += centred.mul_(out).sum(0)
        count = x.numel() // len(mean)
        slope = -scale * rstd * rstd * sum_dz_x / count
        offset = -scale * sum_dz / count - mean * slope
        for piece, out in _pieces(x, dx):
            torch.addcmul(torch.addcmul(offset, piece, slope), out, scale, out=out)
        return dx, sum_dz_x * rstd, sum_dz, None, None


class _Gate(torch.autograd.Function):
    """A feature map times a gate for each channel, which two layers make of the channels' means."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, reduce: torch.Tensor, reduce_bias: torch.Tensor, expand: torch.Tensor,
        expand_bias: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        mean = x.mean((2, 3))
        before = torch.addmm(reduce_bias, mean, reduce.t())
        inner = F.silu(before)
        gate = torch.sigmoid(torch.addmm(expand_bias, inner, expand.t()))
        ctx.save_for_backward(x, mean, before, inner, gate, reduce, expand)
        return x * gate[..., None, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, mean, before, inner, gate, reduce, expand = ctx.saved_tensors
        pictures = zip(x.permute(0, 2, 3, 1), dy.permute(0, 2, 3, 1), strict=True)
        d_gate = torch.stack([(one * grad).sum((0, 1)) for one, grad in pictures])
        d_expand = d_gate * gate * (1 - gate)
        d_reduce = torch.ops.aten.silu_backward(d_expand @ expand, before)
        d_mean = (d_reduce @ reduce) / x[0, 0].numel()
        dx = torch.addcmul(d_mean[..., None, None], dy, gate[..., None, None])
        return dx, d_reduce.t() @ mean, d_reduce.sum(0), d_expand.t() @ inner, d_expand.sum(0)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) as (N * H * W, C): a view where channels are last in memory."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _pieces(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same rows of several feature maps, as many as stay in the cache."""
    one = tensors[0]
    size = max(1, torch.get_num_threads() * BYTES_AT_ONCE // (one.shape[1] * one.element_size()))
    return zip(*(torch.split(_rows(tensor), size) for tensor in tensors), strict=True)
