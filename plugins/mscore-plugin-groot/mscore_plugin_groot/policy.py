"""The policy ``groot``."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import gymnasium
import torch
from annotated_types import Ge
from mscore_plugin_rocket import BackbonePolicy, TokenTransformer
from mscore_plugin_vpt import described_space
from torch import nn

from mscore import MscoreError, minecraft_action_space
from mscore_plugin_groot.decoder import Decoder
from mscore_plugin_groot.encoders import Gaussian, ImageEncoder, VideoEncoder
from mscore_plugin_groot.video import read_reference, references

DEFAULT_ON_THE_HUB = "CraftJarvis/MineStudio_GROOT.18w_EMA"
"""What :func:`load_groot_policy` loads where nothing is named, as in MineStudio."""

FUSER_HEADS = 8
"""Attention heads where what is seen and what is wanted meet, in every GROOT."""

RESOLUTION = (224, 224)
"""Height and width to which reference videos are scaled, for backbones that read any size."""

Condition = dict[str, Gaussian]
"""``posterior_dist`` and ``prior_dist`` of a reference."""


_Part = TypeVar("_Part", bound=nn.Module)


class GrootPolicy(BackbonePolicy):
    """GROOT (Cai et al. 2023): does what a reference video shows.

    A video encoder makes a Gaussian over goals of the reference (the posterior), an image encoder one of
    its first frame alone (the prior). A goal drawn from the posterior, the mean in evaluation mode, is
    fused with every frame and goes through a transformer with memory.

    Without ``ref_video_path`` a window is its own reference, as in training: then a frame's latents depend
    on the whole window. With it they depend on the past alone, and acting step by step, one window and two
    windows give the same. Any number of rows and frames can be read, in any order, and ``first`` may be true
    anywhere; it resets the memory, not the goal.

    ``latents`` holds ``pi_logits``, ``vpred`` (B, T, 1), and ``posterior_dist`` and ``prior_dist``, each a
    dict of ``mu``, ``log_var`` and ``z`` (B, hiddim) float32, as the objective ``kl`` reads them. The state
    is that of :class:`~mscore_plugin_vpt.ResidualRecurrentBlocks`.

    Args:
        backbone: name of a network of timm, with or without ``timm/`` before it.
        freeze_backbone: do not train the backbone.
        hiddim: width of tokens, goals, transformers and latents; 8 must divide it.
        video_encoder_kwargs: of :class:`VideoEncoder`: ``num_spatial_layers``, ``num_temporal_layers``,
            ``num_heads``, ``dropout``.
        image_encoder_kwargs: of :class:`ImageEncoder`: ``num_layers``, ``num_heads``, ``dropout``.
        decoder_kwargs: of the transformer with memory: ``num_heads``, ``num_layers``, ``timesteps``,
            ``mem_len``. ``timesteps`` is also how many frames of a reference video are read.
        action_space: what the policy chooses from (injected); None means MineStudio's Minecraft space.
        pretrained: fetch the backbone's weights; False begins at random. Loading a policy never needs them.
        feature_cache: folder in which a frozen backbone's features are kept, so that from the second epoch
            on the backbone is not run; None runs it each time.

    Raises:
        MscoreError: there is no such backbone, its weights cannot be had, an argument is unknown, or sizes
            do not fit.
    """

    provides_latents = frozenset({"pi_logits", "vpred", "posterior_dist", "prior_dist"})

    def __init__(
        self,
        backbone: str = "efficientnet_b0.ra_in1k",
        freeze_backbone: bool = True,
        hiddim: Annotated[int, Ge(1)] = 1024,
        video_encoder_kwargs: dict[str, Any] | None = None,
        image_encoder_kwargs: dict[str, Any] | None = None,
        decoder_kwargs: dict[str, Any] | None = None,
        action_space: gymnasium.Space[Any] | None = None,
        *,
        pretrained: bool = True,
        feature_cache: str | None = None,
    ) -> None:
        if hiddim % FUSER_HEADS:
            raise MscoreError(f"hiddim is {hiddim}, and {FUSER_HEADS} must divide it")
        super().__init__(
            backbone,
            hiddim,
            action_space=action_space,
            pretrained=pretrained,
            freeze_backbone=freeze_backbone,
            feature_cache=feature_cache,
        )
        self.video_encoder = _made(VideoEncoder, hiddim, "video_encoder_kwargs", video_encoder_kwargs)
        self.image_encoder = _made(ImageEncoder, hiddim, "image_encoder_kwargs", image_encoder_kwargs)
        self.decoder = _made(Decoder, hiddim, "decoder_kwargs", decoder_kwargs)
        self.fuser = TokenTransformer(hiddim, FUSER_HEADS, num_layers=2)
        self.sizes = {
            "video_encoder_kwargs": copy.deepcopy(dict(video_encoder_kwargs or {})),
            "image_encoder_kwargs": copy.deepcopy(dict(image_encoder_kwargs or {})),
            # MineStudio's policy cannot be built without it.
            "decoder_kwargs": {**copy.deepcopy(dict(decoder_kwargs or {})), "timesteps": self.decoder.timesteps},
        }
        self._known: dict[Any, Condition] = {}
        self._known_of: Any = None

    def initial_state(self, batch_size: int | None = None) -> list[torch.Tensor]:
        """Memory of nothing, on the policy's device; None leaves the batch dimension out."""
        return self.decoder.recurrent.initial_state(batch_size)

    def forward(
        self, input: dict[str, Any], state_in: list[torch.Tensor] | None = None
    ) -> tuple[dict[str, Any], list[torch.Tensor]]:
        """Read a window.

        Args:
            input: ``image`` (B, T, H, W, 3), pixels from 0 to 255 of any type; ``first`` (B, T) bool where
                episodes start, which may be left out where none does; ``ref_video_path``, the reference: a
                path for all, B paths, or B lists of T paths; or in its place ``ref_condition``, what
                :meth:`encode_video` made of it, one for all or B along the first dimension. Without either the
                window is its own reference.
            state_in: memory before the window; None means initial.

        Returns:
            The latents that the class lists, and the memory after the window.

        Raises:
            MscoreError: there is no ``image``, or a video cannot be read.
        """
        tokens = self.tokens(input)
        rows, length = input["image"].shape[:2]
        tokens = tokens.view(rows, length, *tokens.shape[1:])
        if "ref_condition" in input:
            condition = {
                name: {part: one.reshape(-1, self.hiddim) for part, one in gaussian.items()}
                for name, gaussian in input["ref_condition"].items()
            }
            goal = condition["posterior_dist"]["z"].unsqueeze(1).expand(rows, length, -1)
        elif "ref_video_path" in input:
            condition, goal = self._follow(references(input["ref_video_path"], rows, length))
        else:
            condition = self._condition(tokens)
            goal = condition["posterior_dist"]["z"].unsqueeze(1).expand(-1, length, -1)
        seen_and_wanted = torch.cat([tokens, goal.unsqueeze(2).to(tokens.dtype)], dim=2)
        x = self.fuser.pool(seen_and_wanted.flatten(0, 1)).view(rows, length, -1)
        state = self.initial_state(rows) if state_in is None else state_in
        latent, state_out = self.decoder(x, input.get("first"), state)
        return {"pi_logits": self.pi_head(latent), "vpred": self.value_head(latent), **condition}, state_out

    def encode_video(self, ref_video_path: str | Path, resolution: tuple[int, int] | None = None) -> Condition:
        """What a reference video asks for.

        Args:
            ref_video_path: a video file; its first ``timesteps`` frames are read.
            resolution: width and height to which it is scaled; None means what the backbone reads, or 224 x
                224 where it reads any size.

        Returns:
            ``posterior_dist`` and ``prior_dist``: ``mu`` and ``log_var`` (1, hiddim), ``z`` (1, 1, hiddim).

        Raises:
            MscoreError: the video cannot be read.
        """
        height, width = self._reference_size() if resolution is None else resolution[::-1]
        frames = read_reference(ref_video_path, self.decoder.timesteps, height, width).to(self.device)
        condition = self.encode_frames(frames)
        return {name: {**gaussian, "z": gaussian["z"].unsqueeze(0)} for name, gaussian in condition.items()}

    def encode_frames(self, frames: torch.Tensor) -> Condition:
        """What frames (n, H, W, 3) ask for, pixels from 0 to 255; Gaussians with a leading 1."""
        return self._condition(self.read_frames(frames).unsqueeze(0))

    def export_config(self) -> dict[str, Any]:
        """Constructor arguments as JSON holds them; those that MineStudio's policy has."""
        return {
            "backbone": self.backbone_name,
            "freeze_backbone": self.freeze_backbone,
            "hiddim": self.hiddim,
            **self.sizes,
            "action_space": described_space(self.action_space, minecraft_action_space()),
        }

    def _condition(self, tokens: torch.Tensor) -> Condition:
        """Gaussians of videos' tokens (B, T, L, hiddim)."""
        return {"posterior_dist": self.video_encoder(tokens), "prior_dist": self.image_encoder(tokens[:, 0])}

    def _follow(self, paths: list[list[str]]) -> tuple[Condition, torch.Tensor]:
        """The Gaussians of each row's first reference, and the goal of each frame, (B, T, hiddim)."""
        known = {path: self._reference(path) for path in dict.fromkeys(path for row in paths for path in row)}
        goal = torch.stack([torch.cat([known[path]["posterior_dist"]["z"] for path in row]) for row in paths])
        names = ("posterior_dist", "prior_dist")
        first = [known[row[0]] for row in paths]
        condition = {name: _joined([one[name] for one in first]) for name in names}
        return condition, goal

    def _reference(self, path: str) -> Condition:
        """A reference's Gaussians; while nothing is trained, those that were made before."""
        if torch.compiler.is_exporting():
            raise MscoreError(
                "an exported program reads no videos: export the policy with 'ref_condition' in its input, what "
                f"encode_video({path!r}) gives, in place of 'ref_video_path'"
            )
        source = Path(path).expanduser()
        try:
            status = source.stat()
        except OSError as error:
            raise MscoreError(f"the reference video {path} cannot be read: {error.strerror or error}") from error
        keep = not self.training and not torch.is_grad_enabled()
        weights = tuple((one.data_ptr(), one._version) for one in self.parameters()) if keep else None
        if self._known_of != weights:
            self._known, self._known_of = {}, weights
        key = (str(source), status.st_mtime_ns, status.st_size)
        if key in self._known:
            return self._known[key]
        frames = read_reference(source, self.decoder.timesteps, *self._reference_size())
        condition = self.encode_frames(frames.to(self.device))
        if keep:
            self._known[key] = condition
        return condition

    def _reference_size(self) -> tuple[int, int]:
        config: dict[str, Any] = getattr(self.backbone, "pretrained_cfg", {})
        if config.get("fixed_input_size"):
            return tuple(config["input_size"][1:])
        return RESOLUTION


def load_groot_policy(ckpt_path: str | Path | None = None, *, strict: bool = True) -> GrootPolicy:
    """Load a GROOT policy.

    Args:
        ckpt_path: a Lightning checkpoint (plain or ``-EMA``), a directory with ``config.json`` and
            ``model.safetensors``, or an id on the Hugging Face hub, as :meth:`GrootPolicy.from_pretrained`
            reads them. None means MineStudio's own GROOT, from the hub.
        strict: False warns of tensors that are missing or superfluous instead of refusing them.

    Returns:
        The policy in evaluation mode.

    Raises:
        MscoreError: it cannot be read, or weights and policy do not fit; every tensor is named with both
            shapes.
    """
    return GrootPolicy.from_pretrained(ckpt_path or DEFAULT_ON_THE_HUB, strict=strict)


def _made(part: Callable[..., _Part], hiddim: int, name: str, arguments: Mapping[str, Any] | None) -> _Part:
    """A part of the policy, with arguments that came from a config."""
    try:
        return part(hiddim, **(arguments or {}))
    except (TypeError, AssertionError) as error:
        raise MscoreError(f"{name} does not fit: {error}") from error


def _joined(gaussians: list[Gaussian]) -> Gaussian:
    return {name: torch.cat([one[name] for one in gaussians]) for name in gaussians[0]}
