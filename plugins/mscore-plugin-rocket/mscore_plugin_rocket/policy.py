"""The policy ``rocket``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from mscore_plugin_vpt import FanInInitReLULayer, ResidualRecurrentBlocks, described_space
from torch import nn

from mscore import MscoreError, minecraft_action_space
from mscore_plugin_rocket.backbone_policy import BackbonePolicy
from mscore_plugin_rocket.tokens import TokenTransformer

DEFAULT_ON_THE_HUB = "CraftJarvis/MineStudio_ROCKET-1.12w_EMA"
"""What :func:`load_rocket_policy` loads where nothing is named, as in MineStudio."""

INTERACTIONS = 10
"""Kinds of interaction that the policy tells apart, "none" among them."""

SEGMENTATION_KEYS = ("segment", "segmentation")
"""Where the input may have the segmentation; the first that is there is read."""


class RocketPolicy(BackbonePolicy):
    """ROCKET-1 (Cai et al. 2024): acts on the object that a segmentation mask points to.

    The mask is the fourth channel of what the backbone sees; the kind of interaction modulates every block
    of a transformer with memory. ``latents`` holds ``pi_logits`` and ``vpred`` (B, T, 1). The state is that
    of :class:`~mscore_plugin_vpt.ResidualRecurrentBlocks`: any number of rows and frames can be read, in
    any order, and ``first`` may be true anywhere.

    Args:
        backbone: name of a network of timm, with or without ``timm/`` before it.
        hiddim: width of tokens, transformer and latents.
        num_heads: attention heads; must divide ``hiddim``.
        num_layers: blocks of the transformer with memory.
        timesteps: length of the training windows, as MineStudio's configs give it. Windows of any length are
            read, whatever it says.
        mem_len: how many frames are remembered.
        action_space: what the policy chooses from (injected); None means MineStudio's Minecraft space.
        nucleus_prob: sample only from the smallest set of actions whose probability reaches it.
        pretrained: fetch the backbone's weights; False begins at random. Loading a policy never needs them.
        freeze_backbone: do not train the backbone. The mask's channel is then what timm makes of the
            pretrained weights for colours.
        feature_cache: folder in which a frozen backbone's features are kept, so that from the second epoch
            on the backbone is not run; None runs it each time.

    Raises:
        MscoreError: there is no such backbone, its weights cannot be had, or sizes do not fit.
    """

    provides_latents = frozenset({"pi_logits", "vpred"})

    def __init__(
        self,
        backbone: str = "vit_base_patch16_224.dino",
        hiddim: Annotated[int, Ge(1)] = 1024,
        num_heads: Annotated[int, Ge(1)] = 8,
        num_layers: Annotated[int, Ge(1)] = 4,
        timesteps: Annotated[int, Ge(1)] = 128,
        mem_len: Annotated[int, Ge(1)] = 128,
        action_space: gymnasium.Space[Any] | None = None,
        nucleus_prob: Annotated[float, Gt(0), Le(1)] | None = 0.85,
        *,
        pretrained: bool = True,
        freeze_backbone: bool = False,
        feature_cache: str | None = None,
    ) -> None:
        if hiddim % num_heads:
            raise MscoreError(f"num_heads ({num_heads}) must divide hiddim ({hiddim})")
        super().__init__(
            backbone,
            hiddim,
            in_chans=4,
            token_bias=False,
            action_space=action_space,
            nucleus_prob=nucleus_prob,
            pretrained=pretrained,
            freeze_backbone=freeze_backbone,
            feature_cache=feature_cache,
        )
        self.sizes = {"num_heads": num_heads, "num_layers": num_layers, "timesteps": timesteps, "mem_len": mem_len}
        self.pooling = TokenTransformer(hiddim, num_heads, num_layers=2)
        self.interaction = nn.Embedding(INTERACTIONS, hiddim)
        self.recurrent = ResidualRecurrentBlocks(
            hiddim,
            timesteps=timesteps,
            attention_memory_size=mem_len + timesteps,
            n_block=num_layers,
            attention_heads=num_heads,
            inject_condition=True,
        )
        self.lastlayer = FanInInitReLULayer(hiddim, hiddim, layer_type="linear", layer_norm=True)
        self.final_ln = nn.LayerNorm(hiddim)

    def initial_state(self, batch_size: int | None = None) -> list[torch.Tensor]:
        """Memory of nothing, on the policy's device; None leaves the batch dimension out."""
        return self.recurrent.initial_state(batch_size)

    def forward(
        self, input: dict[str, Any], state_in: list[torch.Tensor] | None = None
    ) -> tuple[dict[str, Any], list[torch.Tensor]]:
        """Read a window.

        Args:
            input: ``image`` (B, T, H, W, 3), pixels from 0 to 255 of any type; ``segmentation`` (or
                ``segment``), a dict of ``obj_mask`` (B, T, H, W), 1 on the object and 0 elsewhere, of any
                type, and ``obj_id`` (B, T) integers, the kind of interaction, -1 for none; ``first`` (B, T)
                bool where episodes start, which may be left out where none does.
            state_in: memory before the window; None means initial.

        Returns:
            ``pi_logits`` and ``vpred`` (B, T, 1), and the memory after the window.

        Raises:
            MscoreError: something is missing, of another shape, or an interaction is unknown.
        """
        mask, kind = _segmentation(input)
        x = self.pooling.pool(self.tokens(input, mask)).view(*kind.shape, -1)
        state = self.initial_state(len(kind)) if state_in is None else state_in
        x, state_out = self.recurrent(x, input.get("first"), state, ce_latent=self.interaction(kind + 1))
        latent = self.final_ln(self.lastlayer(F.relu(x)))
        return {"pi_logits": self.pi_head(latent), "vpred": self.value_head(latent)}, state_out

    def export_config(self) -> dict[str, Any]:
        """Constructor arguments as JSON holds them; those that MineStudio's policy has."""
        return {
            "backbone": self.backbone_name,
            "hiddim": self.hiddim,
            **self.sizes,
            "action_space": described_space(self.action_space, minecraft_action_space()),
            "nucleus_prob": self.nucleus_prob,
        }


def load_rocket_policy(ckpt_path: str | Path | None = None, *, strict: bool = True) -> RocketPolicy:
    """Load a ROCKET-1 policy.

    Args:
        ckpt_path: a Lightning checkpoint (plain or ``-EMA``), a directory with ``config.json`` and
            ``model.safetensors``, or an id on the Hugging Face hub, as :meth:`RocketPolicy.from_pretrained`
            reads them. None means MineStudio's own ROCKET-1, from the hub.
        strict: False warns of tensors that are missing or superfluous instead of refusing them.

    Returns:
        The policy in evaluation mode.

    Raises:
        MscoreError: it cannot be read, or weights and policy do not fit; every tensor is named with both
            shapes.
    """
    return RocketPolicy.from_pretrained(ckpt_path or DEFAULT_ON_THE_HUB, strict=strict)


def _segmentation(input: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask and kind of interaction, checked where that does not make a device wait."""
    segmentation = next((input[key] for key in SEGMENTATION_KEYS if key in input), None)
    if not isinstance(segmentation, Mapping) or not {"obj_mask", "obj_id"} <= segmentation.keys():
        raise MscoreError(
            "ROCKET-1 needs 'segmentation' with 'obj_mask' and 'obj_id' beside the picture; the input has "
            f"{', '.join(map(repr, input)) or 'nothing'}. A data module gives it with `enable_segment: true`"
        )
    mask, kind = segmentation["obj_mask"], segmentation["obj_id"]
    frames = tuple(input["image"].shape[:4]) if "image" in input else tuple(mask.shape)
    if tuple(mask.shape) != frames or tuple(kind.shape) != frames[:2]:
        raise MscoreError(
            f"the segmentation does not fit pictures of (B, T, H, W) {frames}: obj_mask is {tuple(mask.shape)}, "
            f"expected the same, and obj_id {tuple(kind.shape)}, expected {frames[:2]}"
        )
    if kind.device.type == "cpu" and not torch.compiler.is_compiling():
        least, most = (int(one) for one in kind.aminmax())
        if least < -1 or most > INTERACTIONS - 2:
            raise MscoreError(
                f"obj_id is {least if least < -1 else most}, expected a kind of interaction from 0 to "
                f"{INTERACTIONS - 2}, or -1 for none"
            )
    return mask, kind
