"""Convolutions of EfficientNet that train faster on a CPU than oneDNN's, with the same results up to rounding.

- A convolution of 1 x 1 places is a matrix product, and as such the matrix library is faster with it.
- For the gradient of a depthwise convolution's weight oneDNN has a fast kernel where it is three places wide, and
  a very slow one where it is wider: ten to thirty times as long for 5 x 5. So a wider weight's gradient is put
  together from those of slices that are three wide.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

FAST_WIDTH = 3
"""Width of the depthwise weights whose gradient is fast."""


class LeanPointwiseConv(nn.Conv2d):
    """A 1 x 1 convolution, see the module's documentation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, out_channels, H, W)."""
        if not trains_here(self, x, self.weight):
            return super().forward(x)
        return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class LeanDepthwiseConv(nn.Conv2d):
    """A depthwise convolution with a wide weight, see the module's documentation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, H', W')."""
        if not trains_here(self, x, self.weight):
            return super().forward(x)
        return _Depthwise.apply(x, self.weight, self.stride, self.padding)  # type: ignore[no-any-return,no-untyped-call]


def lean_convolution(module: nn.Module) -> type[nn.Conv2d] | None:
    """The class that a convolution's own can be replaced with, or None."""
    if type(module) is not nn.Conv2d or module.dilation != (1, 1) or module.padding_mode != "zeros":
        return None
    if module.kernel_size == (1, 1) and module.stride == (1, 1) and module.padding == (0, 0) and module.groups == 1:
        return LeanPointwiseConv
    depthwise = module.groups == module.in_channels == module.out_channels and module.bias is None
    wide = module.kernel_size[1] > FAST_WIDTH and not isinstance(module.padding, str)
    return LeanDepthwiseConv if depthwise and wide else None


def trains_here(module: nn.Module, x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether this is training on a CPU, in one type, with channels last in memory."""
    if not module.training or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    same = x.dtype == weight.dtype and x.dtype in (torch.float32, torch.float64)
    return (
        same
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and x.is_contiguous(memory_format=torch.channels_last)
    )


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution whose weight gets its gradient in slices."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_dx, needs_dw, *_ = ctx.needs_input_grad
        dx = _gradient(dy, x, weight, ctx.stride, ctx.padding, (True, False, False))[0] if needs_dx else None
        return dx, _weight_gradient(dy, x, weight, ctx.stride, ctx.padding) if needs_dw else None, None, None


def _weight_gradient(
    dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> torch.Tensor:
    """(C, 1, kh, kw), from slices of columns; each sees its own part of the padded picture, without padding."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0])).permute(0, 3, 1, 2)
    width, columns = weight.shape[3], []
    seen = stride[1] * (dy.shape[3] - 1) + FAST_WIDTH
    for start in range(0, width, FAST_WIDTH):
        # The last slice ends with the weight, and begins before its turn if it must.
        begin = min(start, width - FAST_WIDTH)
        part = padded[..., begin : begin + seen].contiguous(memory_format=torch.channels_last)
        columns.append(
            _gradient(dy, part, weight[..., :FAST_WIDTH], stride, (0, 0), (False, True, False))[1][..., start - begin :]
        )
    return torch.cat(columns, dim=3)


def _gradient(
    dy: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    wanted: tuple[bool, bool, bool],
) -> tuple[torch.Tensor, ...]:
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        dy, x, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), wanted
    )
