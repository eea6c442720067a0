"""The image trunk: IMPALA's convolutional network (Espeholt et al. 2018) as VPT uses it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mscore import MscoreError
from mscore_plugin_vpt.layers import FanInInitReLULayer

BYTES_AT_ONCE = 16 * 2**20
"""On a CPU, what a layer's output should not exceed, for each thread."""


class CnnBasicBlock(nn.Module):
    """A residual block of two 3 x 3 convolutions: ``x + conv1(conv0(x))``.

    Args:
        channels: of input and output.
        init_scale: product of the two filters' norms at the beginning.
        init_norm_kwargs: normalization, see :class:`FanInInitReLULayer`.
    """

    def __init__(self, channels: int, init_scale: float, init_norm_kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        unit = {"kernel_size": 3, "padding": 1, "init_scale": math.sqrt(init_scale), **init_norm_kwargs}
        self.conv0 = FanInInitReLULayer(channels, channels, **unit)
        self.conv1 = FanInInitReLULayer(channels, channels, **unit)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, H, W) to the same."""
        y: torch.Tensor = self.conv1(self.conv0(x))
        # In place where no backward needs the ReLU's output.
        return x + y if torch.is_grad_enabled() else y.add_(x)


class CnnDownStack(nn.Module):
    """A convolution, pooling to half the size, and residual blocks.

    Args:
        inchan: channels of the input.
        outchan: channels of the output.
        nblock: number of residual blocks.
        init_scale: of the blocks together.
        init_norm_kwargs: normalization, see :class:`FanInInitReLULayer`.
        first_conv_norm: normalize the first convolution's input as well.
        post_pool_groups: groups of a GroupNorm behind the pooling; None for none.
    """

    def __init__(
        self,
        inchan: int,
        outchan: int,
        nblock: int,
        init_scale: float,
        init_norm_kwargs: Mapping[str, Any],
        first_conv_norm: bool,
        post_pool_groups: int | None = None,
    ) -> None:
        super().__init__()
        first_norm = init_norm_kwargs if first_conv_norm else {}
        self.firstconv = FanInInitReLULayer(inchan, outchan, kernel_size=3, padding=1, **first_norm)
        self.n = None if post_pool_groups is None else nn.GroupNorm(post_pool_groups, outchan)
        blocks = [CnnBasicBlock(outchan, init_scale / math.sqrt(nblock), init_norm_kwargs) for _ in range(nblock)]
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inchan, H, W) to (N, outchan, (H + 1) // 2, (W + 1) // 2)."""
        # The greatest of rectified values is the greatest value rectified: ReLU on a quarter of the pixels.
        x = F.relu(half_size(self.firstconv.before_activation(x)), inplace=True)
        if self.n is not None:
            x = self.n(x)
        for block in self.blocks:
            x = block(x)
        return x


def half_size(x: torch.Tensor) -> torch.Tensor:
    """The greatest value in windows of 3 x 3 places, two apart.

    (N, C, H, W) to (N, C, (H + 1) // 2, (W + 1) // 2).
    """
    height, width = x.shape[2:]
    if x.requires_grad or x.device.type != "cpu" or torch.compiler.is_compiling() or height % 2 or width % 2:
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
    # Torch's pooling also finds where the values are, for a backward. Rows first, as they lie together in memory.
    rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    torch.maximum(rows[:, :, 1:], x[:, :, 1:-1:2], out=rows[:, :, 1:])
    pooled = torch.maximum(rows[..., ::2], rows[..., 1::2])
    torch.maximum(pooled[..., 1:], rows[..., 1:-1:2], out=pooled[..., 1:])
    return pooled


class ImpalaCNN(nn.Module):
    """Down-sampling stacks and a dense layer: pictures to vectors.

    Pictures come with channels last, which is also the memory format of every convolution here.

    Args:
        inshape: height, width and channels of the pictures.
        chans: channels of each stack.
        outsize: width of the vectors.
        nblock: residual blocks of a stack.
        init_norm_kwargs: normalization of the convolutions, see :class:`FanInInitReLULayer`.
        dense_init_norm_kwargs: normalization of the dense layer.
        first_conv_norm: normalize the pictures before the first convolution.
        post_pool_groups: groups of a GroupNorm behind each pooling; None for none.
    """

    def __init__(
        self,
        inshape: Sequence[int],
        chans: Sequence[int],
        outsize: int,
        nblock: int = 2,
        init_norm_kwargs: Mapping[str, Any] | None = None,
        dense_init_norm_kwargs: Mapping[str, Any] | None = None,
        first_conv_norm: bool = False,
        post_pool_groups: int | None = None,
    ) -> None:
        super().__init__()
        self.inshape = tuple(inshape)
        height, width, channels = self.inshape
        self.mixes_pictures = bool((init_norm_kwargs or {}).get("batch_norm", False))
        self.largest = height * width * max(chans[0], channels)
        self.stacks = nn.ModuleList()
        for index, outchan in enumerate(chans):
            stack = CnnDownStack(
                channels,
                outchan,
                nblock,
                init_scale=math.sqrt(len(chans)),
                init_norm_kwargs=init_norm_kwargs or {},
                first_conv_norm=first_conv_norm or index > 0,
                post_pool_groups=post_pool_groups,
            )
            self.stacks.append(stack)
            channels, height, width = outchan, (height + 1) // 2, (width + 1) // 2
        self.dense = FanInInitReLULayer(
            channels * height * width,
            outsize,
            layer_type="linear",
            init_scale=1.4,
            **(dense_init_norm_kwargs or {}),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Floats (B, T, H, W, C) to (B, T, outsize).

        Raises:
            MscoreError: the pictures are of another size.
        """
        if tuple(pictures.shape[2:]) != self.inshape:
            raise MscoreError(
                f"the pictures are {tuple(pictures.shape)}, expected (B, T, {', '.join(map(str, self.inshape))}): "
                "resize them in the data or the environment (VPT's are resized with linear interpolation), or set "
                "img_shape of the policy_kwargs"
            )
        # A view: channels-last memory under the channels-first name that convolutions want.
        x = pictures.flatten(0, 1).permute(0, 3, 1, 2)
        parts = [self._features(part) for part in torch.split(x, self._pictures_at_once(x))]
        x = parts[0] if len(parts) == 1 else torch.cat(parts)
        return self.dense(x.reshape(*pictures.shape[:2], -1))  # type: ignore[no-any-return]

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        for stack in self.stacks:
            x = stack(x)
        return x

    def _pictures_at_once(self, x: torch.Tensor) -> int:
        """How many pictures go through the convolutions together.

        On a CPU few of them: what one layer writes is then still in the cache when the next one reads it, and
        the allocator reuses memory instead of asking for fresh pages. All of them where a layer mixes pictures.
        """
        if x.device.type != "cpu" or torch.compiler.is_compiling() or (self.training and self.mixes_pictures):
            return max(len(x), 1)
        bytes_of_one = self.largest * x.element_size()
        return max(1, torch.get_num_threads() * BYTES_AT_ONCE // bytes_of_one)


class ImgObsProcess(nn.Module):
    """:class:`ImpalaCNN` and a linear unit: pictures to the width of the transformer.

    Args:
        cnn_outsize: width between the two.
        output_size: width of the result.
        dense_init_norm_kwargs: normalization of the dense units.
        cnn_kwargs: further arguments of :class:`ImpalaCNN`.
    """

    def __init__(
        self, cnn_outsize: int, output_size: int, dense_init_norm_kwargs: Mapping[str, Any], **cnn_kwargs: Any
    ) -> None:
        super().__init__()
        self.cnn = ImpalaCNN(outsize=cnn_outsize, dense_init_norm_kwargs=dense_init_norm_kwargs, **cnn_kwargs)
        self.linear = FanInInitReLULayer(cnn_outsize, output_size, layer_type="linear", **dense_init_norm_kwargs)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Floats (B, T, H, W, C) to (B, T, output_size)."""
        return self.linear(self.cnn(pictures))  # type: ignore[no-any-return]
