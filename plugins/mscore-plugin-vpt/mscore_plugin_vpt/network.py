"""VPT's network: pictures to the latents that the heads read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from mscore import MscoreError, did_you_mean
from mscore_plugin_vpt.image_trunk import ImgObsProcess
from mscore_plugin_vpt.layers import FanInInitReLULayer, dense_norm
from mscore_plugin_vpt.recurrent import RecurrentState, ResidualRecurrentBlocks

WITHOUT_EFFECT = frozenset({
    *("active_reward_monitors", "diff_mlp_embedding", "input_shape", "obs_processing_width", "only_img_input"),
    "single_output",
})  # fmt: skip
"""Arguments that files of VPT's weights name and that no part of the network reads, here and there."""


class ImgPreprocessing(nn.Module):
    """Pixels to numbers around one.

    Args:
        img_statistics: an npz file with ``mean`` and ``std``, by which pixels are normalized; None scales.
        scale_img: divide by 255 where there are no statistics.

    Raises:
        MscoreError: the file cannot be read.
    """

    img_mean: torch.Tensor | None
    img_std: torch.Tensor | None

    def __init__(self, img_statistics: str | None = None, scale_img: bool = True) -> None:
        super().__init__()
        self.scale = 255.0 if scale_img else 1.0
        self.register_buffer("img_mean", None)
        self.register_buffer("img_std", None)
        if img_statistics is not None:
            try:
                with np.load(Path(img_statistics).expanduser()) as statistics:
                    self.img_mean = torch.as_tensor(statistics["mean"], dtype=torch.float32)
                    self.img_std = torch.as_tensor(statistics["std"], dtype=torch.float32)
            except (OSError, KeyError, ValueError) as error:
                raise MscoreError(
                    f"img_statistics {img_statistics}: expected an npz file with 'mean' and 'std': {error}"
                ) from error

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pixels of any type, channels last, to float32."""
        if self.img_mean is not None and self.img_std is not None:
            return (pictures.float() - self.img_mean) / self.img_std
        return pictures / self.scale if pictures.dtype == torch.uint8 else pictures.float() / self.scale


class VPTNetwork(nn.Module):
    """Image trunk, recurrent transformer and a last layer (``MinecraftPolicy`` in VPT's code).

    Args:
        hidsize: width of the transformer and of the latents.
        img_shape: height, width and channels of the pictures.
        timesteps: length of the training windows; see :class:`ResidualRecurrentBlocks`.
        impala_width: factor of the trunk's channels.
        impala_chans: channels of each of the trunk's stacks, before that factor.
        impala_kwargs: further arguments of the trunk: ``post_pool_groups``.
        init_norm_kwargs: normalization of the trunk: ``group_norm_groups`` or ``batch_norm``.
        first_conv_norm: normalize the pictures before the first convolution.
        scale_input_img: divide pixels by 255.
        img_statistics: an npz file with ``mean`` and ``std`` of pixels instead.
        recurrence_type: ``"transformer"``.
        n_recurrence_layers: number of the transformer's blocks.
        attention_heads: see :class:`ResidualRecurrentBlocks`, as are those that follow.
        attention_memory_size: see there.
        attention_mask_style: see there.
        recurrence_is_residual: see there.
        use_pointwise_layer: see there.
        pointwise_ratio: see there.
        pointwise_use_activation: see there.
        use_pre_lstm_ln: normalize the transformer's input.
        without_effect: arguments of VPT's own code that change nothing (:data:`WITHOUT_EFFECT`).

    Raises:
        MscoreError: an argument is unknown or does not fit the others.
    """

    def __init__(
        self,
        hidsize: int = 512,
        img_shape: Sequence[int] = (128, 128, 3),
        timesteps: int = 128,
        impala_width: float = 1,
        impala_chans: Sequence[int] = (16, 32, 32),
        impala_kwargs: Mapping[str, Any] | None = None,
        init_norm_kwargs: Mapping[str, Any] | None = None,
        first_conv_norm: bool = False,
        scale_input_img: bool = True,
        img_statistics: str | None = None,
        recurrence_type: str = "transformer",
        n_recurrence_layers: int = 1,
        attention_heads: int = 8,
        attention_memory_size: int = 2048,
        attention_mask_style: str = "clipped_causal",
        recurrence_is_residual: bool = True,
        use_pointwise_layer: bool = True,
        pointwise_ratio: int = 4,
        pointwise_use_activation: bool = False,
        use_pre_lstm_ln: bool = True,
        **without_effect: Any,
    ) -> None:
        super().__init__()
        init_norm = dict(init_norm_kwargs or {})
        dense = dense_norm(init_norm)
        self.img_preprocess = ImgPreprocessing(img_statistics, scale_input_img)
        self.img_process = ImgObsProcess(
            cnn_outsize=256,
            output_size=hidsize,
            dense_init_norm_kwargs=dense,
            inshape=img_shape,
            chans=[int(impala_width * channels) for channels in impala_chans],
            nblock=2,
            init_norm_kwargs=init_norm,
            first_conv_norm=first_conv_norm,
            **(impala_kwargs or {}),
        )
        self.pre_lstm_ln = nn.LayerNorm(hidsize) if use_pre_lstm_ln else None
        self.recurrent_layer = ResidualRecurrentBlocks(
            hidsize,
            timesteps=timesteps,
            attention_memory_size=attention_memory_size,
            n_block=n_recurrence_layers,
            attention_heads=attention_heads,
            recurrence_type=recurrence_type,
            is_residual=recurrence_is_residual,
            use_pointwise_layer=use_pointwise_layer,
            pointwise_ratio=pointwise_ratio,
            pointwise_use_activation=pointwise_use_activation,
            attention_mask_style=attention_mask_style,
        )
        self.lastlayer = FanInInitReLULayer(hidsize, hidsize, layer_type="linear", **dense)
        self.final_ln = nn.LayerNorm(hidsize)

    def initial_state(self, batch_size: int | None = None) -> RecurrentState:
        """Memory of nothing; None leaves the batch dimension out."""
        return self.recurrent_layer.initial_state(batch_size)

    def forward(
        self, ob: Mapping[str, torch.Tensor], state_in: RecurrentState, context: Mapping[str, Any]
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], RecurrentState]:
        """Read a window.

        Args:
            ob: ``image`` (B, T, H, W, C), pixels from 0 to 255 of any type.
            state_in: memory before the window.
            context: ``first`` (B, T) bool, true where an episode starts; None for nowhere.

        Returns:
            The latents for the action head and for the value head, (B, T, hidsize) and the same tensor,
            and the memory after the window.
        """
        pictures = self.img_preprocess(ob["image"])
        x = self.img_process(pictures.to(self.final_ln.weight.dtype))
        if self.pre_lstm_ln is not None:
            x = self.pre_lstm_ln(x)
        x, state_out = self.recurrent_layer(x, context["first"], state_in)
        latent = self.final_ln(self.lastlayer(F.relu(x)))
        return (latent, latent), state_out


def unknown_arguments(names: Mapping[str, Any], known: set[str]) -> list[str]:
    """Names that the network does not have, each with the nearest that it has."""
    return [f"{name!r}.{did_you_mean(name, known)}" for name in names if name not in known | WITHOUT_EFFECT]
