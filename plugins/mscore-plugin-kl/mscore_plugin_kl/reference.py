"""Divergence of the trained policy from a frozen reference policy, which keeps it from forgetting."""

import copy
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Gt, Le

from mscore import Memory, MinePolicy, MscoreError, ObjectiveCallback, Run, load_policy, tree_leaves


class ReferenceKLCallback(ObjectiveCallback):
    """KL divergence between the trained policy's actions and a frozen reference policy's.

    The divergence of a frame is that of the whole action distributions, not of samples; it is averaged
    over the valid frames (``mask``), so that its weight does not depend on the window.

    The reference reads the same batches with a memory of its own, carried from batch to batch and begun
    anew row by row exactly as the trained policy's is, separately for training and validation. It reads
    each batch once, in :meth:`before_step`; the objective may then be evaluated any number of times, on
    any rows of that batch, as PPO does with its fragments.

    The reference is no part of the module: it is in evaluation mode, is not trained, not averaged and not
    in checkpoints. Its memory is (:meth:`state_dict`), so that a resumed run goes on exactly.

    Logged: ``loss``, ``kl_div`` (nats per valid frame, without the weight) and ``kl_weight``.

    Args:
        source: where the reference's weights are, in the forms of ``init_from``: a run's directory, a
            checkpoint, or an exported directory. In a run that has an ``init_from``, None means the same: the
            policy that training begins with.
        reference_policy: the reference itself instead, in Python; a copy is taken, so the policy that is
            about to be trained may be given.
        weight: factor of the loss.
        direction: ``"reverse"`` is KL(policy || reference), which keeps the policy away from what the
            reference would not do; ``"forward"`` is KL(reference || policy), which keeps it able to do
            all that the reference does, as in distillation.
        decay: the weight is multiplied by it after every training batch that is read; a batch of PPO's is an
            iteration's fragments. 1 keeps the weight.
        run: the run (injected), for its ``init_from``.

    Raises:
        MscoreError: without a reference or with two, from a source that holds no policy, and in the
            first step for a reference with another action space.
        ValueError: for another ``direction``.

    Source: Ouyang et al. 2022 (the penalty of RLHF); MineStudio's PPO has the reverse form, with a
    reference that forgets at every fragment.
    """

    needs_latents = frozenset({"pi_logits"})
    mean_over = "frames"
    # A policy made by a config would have weights of its own drawing, which is no reference.
    mscore_hidden_parameters = frozenset({"reference_policy"})

    _numbers = count()

    def __init__(
        self,
        *,
        source: str | Path | None = None,
        reference_policy: MinePolicy | None = None,
        weight: float = 1.0,
        direction: Literal["forward", "reverse"] = "reverse",
        decay: Annotated[float, Gt(0), Le(1)] = 1.0,
        run: Run | None = None,
    ) -> None:
        super().__init__()
        if direction not in ("forward", "reverse"):
            raise ValueError(f"direction is {direction!r}, expected 'forward' or 'reverse'")
        if source is None and reference_policy is None and run is not None:
            source = run.config.init_from
        if (source is None) == (reference_policy is None):
            raise MscoreError(
                "reference-kl needs one reference: `source`, a run directory, checkpoint or exported "
                "directory (or the run's `init_from`), or (in Python) `reference_policy`"
            )
        policy = load_policy(source) if source is not None else copy.deepcopy(reference_policy)
        assert policy is not None
        self.reference: MinePolicy = policy.eval().requires_grad_(False)
        self.weight = weight
        self.direction = direction
        self.decay = decay
        self._memories = {"train": Memory(), "val": Memory()}
        self._logits_key = f"reference_logits_{next(self._numbers)}"
        self._same_space = False
        self._read = 0

    def before_step(self, batch: dict[str, Any], batch_idx: int, step_name: str) -> dict[str, Any]:
        """Let the reference read the batch, and keep its logits with it."""
        if step_name == "val" and batch_idx == 0:
            # As the trained policy's, the memory of validation does not outlast it.
            self._memories["val"].clear()
        if step_name == "train":
            self._read += 1
        return {**batch, self._logits_key: self.reference_logits(batch, step_name)}

    @torch.no_grad()
    def reference_logits(self, batch: dict[str, Any], step_name: str) -> Any:
        """Action logits of the reference for a batch, which follows the one before it.

        Args:
            batch: observations (B, T, …), with what tells its rows' continuity.
            step_name: ``"train"`` or ``"val"``: which memory to go on with.

        Returns:
            What the reference's action head returns, without gradient.
        """
        weights = next(self.reference.parameters())
        device = next(tree_leaves(batch)).device
        if weights.device != device:
            self.reference.to(device)
        # Under "true" half precision the observations come in half; the reference keeps its own precision.
        batch = {key: _cast(value, weights.dtype) for key, value in batch.items()}
        memory = self._memories[step_name]
        batch, state_in = memory.prepare(batch, self.reference)
        latents, state_out = self.reference(batch, state_in)
        memory.keep(state_out)
        return latents["pi_logits"]

    def __call__(
        self,
        batch: dict[str, Any],
        batch_idx: int,
        step_name: str,
        latents: dict[str, Any],
        mine_policy: MinePolicy,
    ) -> dict[str, torch.Tensor | float]:
        """Compute the loss, and the terms that the class lists."""
        if not self._same_space:
            self._refuse_other_space(mine_policy)
        ours, theirs = latents["pi_logits"], batch.get(self._logits_key)
        if theirs is None:
            theirs = self.reference_logits(batch, step_name)
        first, second = (ours, theirs) if self.direction == "reverse" else (theirs, ours)
        divergence = mine_policy.pi_head.kl_divergence(first, second).squeeze(-1).float()
        mask: torch.Tensor | None = batch.get("mask")
        if mask is None:
            mean = divergence.mean()
        else:
            mask = mask.bool()
            mean = divergence.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
        weight = self.weight * self.decay ** max(self._read - 1, 0)
        return {"loss": mean * weight, "kl_div": mean.detach(), "kl_weight": weight}

    def state_dict(self) -> dict[str, Any]:
        """The reference's memory in training, and how often the weight has decayed.

        The reference's weights are where they came from.
        """
        return {"memory": self._memories["train"].state_dict(), "read": self._read}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the memory that :meth:`state_dict` gave."""
        self._memories["train"].load_state_dict(state["memory"])
        self._read = state.get("read", 0)

    def _refuse_other_space(self, mine_policy: MinePolicy) -> None:
        if self.reference.action_space != mine_policy.action_space:
            raise MscoreError(
                f"the reference policy acts in {self.reference.action_space}, the trained policy in "
                f"{mine_policy.action_space}; their divergence exists in one action space only"
            )
        self._same_space = True


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
