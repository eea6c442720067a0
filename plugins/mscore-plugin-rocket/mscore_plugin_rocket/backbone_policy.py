"""Base of policies that see through a timm backbone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import gymnasium
import torch
import torch.nn.functional as F
from mscore_plugin_vpt import PretrainedPolicy
from torch import nn

from mscore import MscoreError
from mscore_plugin_rocket.backbone import PixelNormalization, create_backbone, plain_name
from mscore_plugin_rocket.feature_cache import FeatureCache


class BackbonePolicy(PretrainedPolicy):
    """A policy whose pictures go through a timm backbone and a linear layer, to tokens.

    It comes with what such a policy needs: pretrained weights or none, a backbone that can be frozen
    (then also its batch statistics stay), and frozen features on disk. Keys: ``backbone.*``, which are
    timm's, and ``updim.*``.

    Args:
        backbone: name of a network of timm, with or without ``timm/`` before it.
        hiddim: width of the tokens and of the latents that the heads read.
        in_chans: channels that the backbone sees: three colours, and masks behind them.
        token_bias: whether the linear layer has a bias.
        action_space: see :class:`~mscore.MinePolicy`.
        nucleus_prob: see there.
        pretrained: fetch the backbone's weights; False begins at random.
        freeze_backbone: do not train the backbone.
        feature_cache: folder in which a frozen backbone's features are kept, see :class:`FeatureCache`;
            None computes them each time.

    Raises:
        MscoreError: there is no such backbone, its weights cannot be had, or features of a backbone that is
            trained are to be kept.

    Attributes:
        backbone: the network, with a list of feature maps as its output.
        updim: the linear layer, a 1 x 1 convolution by name and shape.
    """

    arguments_when_loaded: ClassVar[Mapping[str, Any]] = {"pretrained": False}

    def __init__(
        self,
        backbone: str,
        hiddim: int,
        *,
        in_chans: int = 3,
        token_bias: bool = True,
        action_space: gymnasium.Space[Any] | None = None,
        nucleus_prob: float | None = None,
        pretrained: bool = True,
        freeze_backbone: bool = False,
        feature_cache: str | Path | None = None,
    ) -> None:
        if feature_cache is not None and not freeze_backbone:
            raise MscoreError(
                "feature_cache keeps what a backbone makes of the data, which changes while it is trained: set "
                "`freeze_backbone: true`, or leave feature_cache out"
            )
        super().__init__(hiddim, action_space, nucleus_prob=nucleus_prob)
        self.backbone_name = plain_name(backbone)
        self.freeze_backbone = freeze_backbone
        self.nucleus_prob = nucleus_prob
        self.cache = None if feature_cache is None else FeatureCache(feature_cache)
        self.backbone = create_backbone(backbone, pretrained=pretrained, in_chans=in_chans)
        self.backbone.requires_grad_(not freeze_backbone)
        self.normalization = PixelNormalization(self.backbone)
        info: Any = self.backbone.feature_info
        self.updim = nn.Conv2d(info[-1]["num_chs"], hiddim, kernel_size=1, bias=token_bias)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set training mode; a frozen backbone stays in evaluation mode, batch statistics and all."""
        super().train(mode)
        if self.freeze_backbone:
            self.backbone.eval()
        for module in self.backbone.modules():
            if isinstance(module, nn.SiLU):
                # Its gradient needs its input: in place it would copy that first.
                module.inplace = not self.backbone.training
        return self

    def tokens(self, input: Mapping[str, Any], *more: torch.Tensor) -> torch.Tensor:
        """What the policy sees in the places of each frame.

        Args:
            input: ``image`` (B, T, H, W, 3), pixels from 0 to 255 of any type. ``episode`` and ``timestamp``,
                which batches of data have, are what features are kept under.
            more: further channels (B, T, H, W).

        Returns:
            (B * T, h * w, hiddim).

        Raises:
            MscoreError: there is no ``image``, or the backbone cannot read frames of that size.
        """
        if "image" not in input:
            raise MscoreError(f"the policy's input lacks 'image'; it has {', '.join(map(repr, input)) or 'nothing'}")
        frames = (input["image"], *more)
        if self.cache is not None and not torch.compiler.is_compiling() and {"episode", "timestamp"} <= input.keys():
            features = self.cache.features(
                self.backbone,
                self.normalization.describe(),
                lambda rows: self._features([frame[rows] for frame in frames]),
                frames,
                input["episode"],
                input["timestamp"],
            )
        else:
            features = self._features(frames)
        weight = self.updim.weight
        return F.linear(features.flatten(0, 1).to(weight.dtype), weight.flatten(1), self.updim.bias)

    def read_frames(self, pictures: torch.Tensor) -> torch.Tensor:
        """Tokens (n, h * w, hiddim) of pictures (n, H, W, 3) that belong to no batch."""
        return self.tokens({"image": pictures.unsqueeze(0)})

    def _features(self, frames: tuple[torch.Tensor, ...] | list[torch.Tensor]) -> torch.Tensor:
        """The backbone's deepest feature map, (B, T, h * w, C)."""
        flat = [frame.flatten(0, 1) for frame in frames]
        x = self.normalization(*flat, dtype=self.updim.weight.dtype)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_backbone):
            try:
                features = self.backbone(x)[-1]
            except (AssertionError, RuntimeError) as error:
                self._refuse_size(x, error)
                raise
        _, channels, height, width = features.shape
        return features.permute(0, 2, 3, 1).reshape(*frames[0].shape[:2], height * width, channels)  # type: ignore[no-any-return]

    def _refuse_size(self, x: torch.Tensor, error: Exception) -> None:
        """Say it where the reason is the frames' size, which some networks are made for."""
        config: dict[str, Any] = getattr(self.backbone, "pretrained_cfg", {})
        wanted = tuple(config.get("input_size", (0, 0, 0)))[1:]
        if config.get("fixed_input_size") and tuple(x.shape[2:]) != wanted:
            raise MscoreError(
                f"the backbone {self.backbone_name} reads frames of {wanted[0]} x {wanted[1]} pixels, and these have "
                f"{x.shape[2]} x {x.shape[3]}: set the data's frame_height and frame_width, or take a backbone that "
                "reads any size, such as efficientnet_b0.ra_in1k"
            ) from error
