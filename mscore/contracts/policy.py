"""Policies: agents that see frames and act, with memory carried from window to window."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from torch import nn

from mscore.errors import MscoreError
from mscore.heads import make_action_head, make_value_head
from mscore.heads.spaces import minecraft_action_space
from mscore.tree import tree_map

State = Any
"""A nest of dicts, lists and tuples of tensors whose first dimension is the batch."""


class MinePolicy(nn.Module, ABC):
    """Base class of policies.

    A subclass builds its network, and implements :meth:`forward` and :meth:`initial_state`. The base
    gives it heads for its action space and the acting step.

    ``forward`` must honour ``input["first"]`` (bool, (B, T)) anywhere in the window: where it is true the
    policy forgets what lies before. Acting step by step, one window, and two windows then give the same.

    Args:
        hiddim: width of the latent that the heads read.
        action_space: the actions' space; None means MineStudio's Minecraft space (buttons 8641, camera
            121, both as one-element MultiDiscrete).
        temperature: the action logits are divided by it before normalization.
        nucleus_prob: sample only from the smallest set of actions whose probability reaches it.

    Attributes:
        provides_latents: names of the latents that ``forward`` returns, or None when not declared.
        arguments_when_loaded: constructor arguments that replace the configured ones where all weights are
            about to be loaded, such as ``{"pretrained": False}``: what would be fetched is overwritten.
        pi_head: action head: ``logprob``, ``entropy``, ``sample``, ``kl_divergence``.
        value_head: value head, (B, T, hiddim) to (B, T, 1).
    """

    provides_latents: ClassVar[frozenset[str] | None] = None
    arguments_when_loaded: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        hiddim: int,
        action_space: gymnasium.Space[Any] | None = None,
        temperature: float = 1.0,
        nucleus_prob: float | None = None,
    ) -> None:
        super().__init__()
        self.hiddim = hiddim
        self.action_space = minecraft_action_space() if action_space is None else action_space
        self.pi_head = make_action_head(self.action_space, hiddim, temperature=temperature, nucleus_prob=nucleus_prob)
        self.value_head = make_value_head(hiddim)

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def load_weights(self, source: str) -> None:
        """Load starting weights from a layout of the policy's own, such as another project's files.

        A policy overrides it to be started by ``init_from:`` from weights that mscore did not write.

        Args:
            source: what ``init_from`` says: a path, or any name that the policy knows.

        Raises:
            MscoreError: the weights cannot be read, or do not fit.
        """
        raise MscoreError(
            f"{type(self).__name__} reads weights that mscore wrote: a run's directory, a checkpoint (.ckpt) or "
            f"an exported policy; {source} is none of these"
        )

    def export_config(self) -> dict[str, Any] | None:
        """``config.json`` of an exported directory, where the policy has a layout of its own.

        A policy overrides it whose exported directories another project's ``from_pretrained`` shall read.

        Returns:
            What JSON can hold; None (by default) for mscore's own description.
        """
        return None

    @abstractmethod
    def initial_state(self, batch_size: int | None = None) -> State:
        """Memory before anything was seen, on the policy's device.

        Args:
            batch_size: number of rows; None leaves the batch dimension out.
        """

    @abstractmethod
    def forward(self, input: dict[str, Any], state_in: State = None) -> tuple[dict[str, Any], State]:
        """Read a window and return latents for the objectives, and the memory after it.

        Args:
            input: observations with leading (B, T), and ``first`` (B, T) bool where episodes start.
            state_in: memory before the window; None means initial.

        Returns:
            Latents (``pi_logits`` and ``vpred`` (B, T, 1) at least, for policies that act) and the state.
        """

    @torch.inference_mode()
    def get_action(
        self,
        input: dict[str, Any],
        state_in: State = None,
        deterministic: bool = False,
        input_shape: str = "BT*",
    ) -> tuple[Any, State]:
        """Choose actions.

        Args:
            input: observations; with ``input_shape="BT*"`` tensors with leading (B, T), with ``"*"`` one
                frame of one environment as tensors, arrays, numbers or text.
            state_in: memory before; with ``"*"`` without the batch dimension. None means initial.
            deterministic: take the most probable action instead of sampling.
            input_shape: ``"BT*"`` or ``"*"``.

        Returns:
            The action (shaped by the action space behind the leading dimensions of the input) and the
            memory after. The value estimate is left in ``self.vpred`` and the latents in
            ``self.cache_latents``.

        Raises:
            ValueError: for another ``input_shape``.
        """
        if input_shape not in ("BT*", "*"):
            raise ValueError(f"input_shape is {input_shape!r}, expected 'BT*' or '*'")
        single = input_shape == "*"
        if single:
            input = {key: _add_batch_and_time(value, self.device) for key, value in input.items()}
            state_in = tree_map(lambda leaf: leaf.unsqueeze(0), state_in)
        latents, state_out = self(input, state_in)
        action = self.pi_head.sample(latents["pi_logits"], deterministic)
        self.vpred = latents.get("vpred")
        self.cache_latents = latents
        if single:
            action = tree_map(lambda leaf: leaf[0, 0], action)
            state_out = tree_map(lambda leaf: leaf[0], state_out)
        return action, state_out


def _add_batch_and_time(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {key: _add_batch_and_time(item, device) for key, item in value.items()}
    if isinstance(value, str):
        return [[value]]
    if isinstance(value, torch.Tensor | np.ndarray | np.generic | bool | int | float):
        return torch.as_tensor(value, device=device)[None, None]
    return value
