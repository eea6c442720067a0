"""timm's networks as backbones: made by name, with the normalization that their pixels want."""

import difflib
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import nn

from mscore import MscoreError
from mscore_plugin_rocket.lean_layers import make_lean

HUB_PREFIX = "timm/"
"""What the hub's ids of timm's own weights begin with; some versions of timm refuse it in a name."""

_ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")


def plain_name(name: str) -> str:
    """A backbone's name as timm's list has it: ``timm/`` before it means the same."""
    return name.removeprefix(HUB_PREFIX)


def create_backbone(name: str, *, pretrained: bool = True, in_chans: int = 3) -> nn.Module:
    """Make a network that gives feature maps.

    Args:
        name: a network of timm, with or without a tag of weights (``efficientnet_b0.ra_in1k``) and with or
            without ``timm/`` before it.
        pretrained: fetch weights (from timm's cache on this machine if they are there); False begins at
            random.
        in_chans: channels of the input. For more than three timm spreads the first layer's weights.

    Returns:
        Called with pictures (N, in_chans, H, W) it gives a list of feature maps (N, C, h, w), the deepest
        last; ``feature_info[-1]["num_chs"]`` is that one's C. Names of its tensors are timm's.

    Raises:
        MscoreError: the name is unknown, the network gives no feature maps, or the weights cannot be had.
    """
    plain = plain_name(name)
    _refuse_unknown(name, plain)
    if pretrained and not plain.startswith(_ELSEWHERE) and not timm.is_model_pretrained(plain):
        raise MscoreError(
            f"timm has no pretrained weights of the backbone {name!r}; `pretrained: false` begins at random"
        )
    try:
        network = timm.create_model(plain, pretrained=pretrained, features_only=True, in_chans=in_chans)
    except (AttributeError, RuntimeError, NotImplementedError, AssertionError) as error:
        raise MscoreError(f"the backbone {name!r} cannot give feature maps: {error}") from error
    except Exception as error:
        if not pretrained:
            raise
        # Which errors there are depends on the hub's client and its transport.
        raise MscoreError(
            f"the pretrained weights of the backbone {name!r} cannot be had ({_first_line(error)}). Where there is no "
            "network, put them into Hugging Face's cache beforehand; or begin at random with `pretrained: false`"
        ) from error
    make_lean(network)
    return network


def _refuse_unknown(name: str, plain: str) -> None:
    if plain.startswith(_ELSEWHERE):
        return
    architecture, _, tag = plain.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise MscoreError(f"timm has no network {name!r}{meant} `timm.list_models('*vit*')` lists what there is")
    tags = [known.partition(".")[2] for known in timm.list_models(f"{architecture}.*", pretrained=True)]
    if tag and tag not in tags:
        listed = f"there are {', '.join(tags)}" if tags else "it has none"
        raise MscoreError(f"timm knows no weights {tag!r} of {architecture}: {listed}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class PixelNormalization(nn.Module):
    """Pixels from 0 to 255 to what a backbone was trained with, and further channels behind them.

    It has no tensors in the ``state_dict``.

    Args:
        backbone: what :func:`create_backbone` made; mean and standard deviation are timm's for it.
    """

    statistics: torch.Tensor

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        config: dict[str, Any] = resolve_model_data_config(backbone)  # type: ignore[no-untyped-call]
        numbers = 255 * torch.tensor([config["mean"], config["std"]], dtype=torch.float32)
        # As integers they stay float32 when a module is cast: bfloat16 cannot hold pixels' means.
        self.register_buffer("statistics", numbers.view(torch.int32), persistent=False)

    def forward(self, pictures: torch.Tensor, *more: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Normalize.

        Args:
            pictures: (N, H, W, 3), of any type.
            more: further channels (N, H, W), taken as they are.
            dtype: of the result.

        Returns:
            (N, 3 + len(more), H, W), channels last in memory, which convolutions are fastest with.
        """
        mean, std = self.statistics.view(torch.float32)
        normalized: torch.Tensor = (pictures.float() - mean) / std
        if more:
            normalized = torch.cat([normalized, *(channel.unsqueeze(-1).float() for channel in more)], dim=-1)
        return normalized.to(dtype).permute(0, 3, 1, 2)

    def describe(self) -> str:
        """The transform in words that tell it from any other."""
        return f"pixels:{self.statistics.tolist()}"
