"""Behaviour cloning: the negative log-likelihood of the demonstrated actions."""

from typing import Any, Literal

import gymnasium
import torch
from gymnasium import spaces

from mscore import NULL_CAMERA, MinePolicy, ObjectiveCallback, is_minecraft, tree_detach


class BehaviorCloneCallback(ObjectiveCallback):
    """Behaviour cloning, for every action space that the policy's head supports.

    The loss of a frame is ``-log pi(agent_action | frame)``. Frames that the batch's ``mask`` (B, T) bool
    leaves out count nowhere; their actions must lie in the action space all the same.

    Logged for every space: ``loss``, ``entropy`` (nats, reduced as the loss is) and ``bc_weight``.

    - Minecraft's space (``buttons`` and ``camera``), as MineStudio defines it: ``camera_loss`` and
      ``button_loss`` besides. Frames whose camera action is 60 ("no movement") are left out of the
      camera's loss and entropy.
    - Other Dict spaces: ``<key>_loss`` for every key, unweighted.
    - Spaces without a Box part: ``accuracy``, the share of the valid frames in which the most probable
      action is the demonstrated one, in all of its parts. (Minecraft's space has none: its 8641 buttons
      would make it the most expensive number of the step.)

    Args:
        weight: factor of the loss; the other terms are reported without it.
        reduction: ``"sum"`` adds up over time and averages over the rows that have a valid frame, as
            MineStudio does, so that the loss grows with the window; ``"mean"`` averages over the valid
            frames.

    Raises:
        ValueError: for another ``reduction``.

    Source: ``minestudio.offline.mine_callbacks.BehaviorCloneCallback``; Baker et al. 2022 (VPT).
    """

    needs_batch = frozenset({"agent_action"})
    needs_latents = frozenset({"pi_logits"})

    def __init__(self, weight: float = 1.0, reduction: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction is {reduction!r}, expected 'sum' or 'mean'")
        self.weight = weight
        self.reduction = reduction
        self.mean_over = "rows" if reduction == "sum" else "frames"

    def __call__(
        self,
        batch: dict[str, Any],
        batch_idx: int,
        step_name: str,
        latents: dict[str, Any],
        mine_policy: MinePolicy,
    ) -> dict[str, torch.Tensor | float]:
        """Compute the loss, and the terms that the class lists, as 0-d float32 tensors without gradient."""
        action, logits = batch["agent_action"], latents["pi_logits"]
        space, head = mine_policy.action_space, mine_policy.pi_head
        mask: torch.Tensor | None = batch.get("mask")
        mask = None if mask is None else mask.bool()
        # The head's entropy is a metric here: without a graph it costs a fraction.
        still = tree_detach(logits)

        if is_minecraft(space):
            logp = head.logprob(action, logits, return_dict=True)
            entropy = head.entropy(still, return_dict=True)
            moved = (action["camera"] != NULL_CAMERA).reshape(logp["camera"].shape)
            camera_mask = moved if mask is None else moved & mask
            count = self._count(logp["camera"], mask)
            camera_loss = -_total(logp["camera"], camera_mask) / count
            button_loss = -_total(logp["buttons"], mask) / count
            entropies = _total(entropy["camera"], camera_mask) + _total(entropy["buttons"], mask)
            return {
                "loss": (camera_loss + button_loss) * self.weight,
                "camera_loss": camera_loss.detach(),
                "button_loss": button_loss.detach(),
                "entropy": entropies / count,
                "bc_weight": self.weight,
            }

        terms: dict[str, torch.Tensor | float] = {}
        if isinstance(space, spaces.Dict):
            parts = head.logprob(action, logits, return_dict=True)
            logp = sum(parts.values())
            count = self._count(logp, mask)
            terms = {f"{key}_loss": -_total(part.detach(), mask) / count for key, part in parts.items()}
        else:
            logp = head.logprob(action, logits)
            count = self._count(logp, mask)
        terms["loss"] = -_total(logp, mask) / count * self.weight
        terms["entropy"] = _total(head.entropy(still), mask) / count
        if _is_countable(space):
            hits = _matches(head.sample(still, deterministic=True), action, logp.ndim)
            terms["accuracy"] = _total(hits, mask) / _frames(logp, mask)
        terms["bc_weight"] = self.weight
        return terms

    def _count(self, logp: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | int:
        """What the sum over rows and frames is divided by: rows or frames that are valid, at least 1."""
        if self.reduction == "mean":
            return _frames(logp, mask)
        if mask is None:
            return max(logp.shape[0], 1)
        return mask.any(-1).sum().clamp(min=1)


def _frames(logp: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor | int:
    """Number of valid frames, at least 1; a tensor where it depends on data, so that nothing waits."""
    return max(logp.numel(), 1) if mask is None else mask.sum().clamp(min=1)


def _total(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Sum of (B, T) over the valid frames, in float32.

    Frames are left out by filling, not by multiplying: what stands there need not be finite.
    """
    values = values.float()
    return (values if mask is None else values.masked_fill(~mask, 0.0)).sum()


def _is_countable(space: gymnasium.Space[Any]) -> bool:
    """True where "the same action" means something: every part is one of finitely many."""
    if isinstance(space, spaces.Dict):
        return all(_is_countable(part) for part in space.spaces.values())
    return isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)


def _matches(mode: Any, action: Any, leading: int) -> torch.Tensor:
    """(B, T) bool: the two actions agree in all of their parts. ``leading`` is the number of (B, T) axes."""
    if isinstance(mode, dict):
        return torch.stack([_matches(mode[key], action[key], leading) for key in mode]).all(0)
    same: torch.Tensor = mode == action
    return same.flatten(leading).all(-1) if same.ndim > leading else same
