"""A frozen reference policy that the trained one is held near."""

import copy
from typing import Any

import torch

from mscore import Memory, MinePolicy


class Reference:
    """What a frozen policy would have done in fragments.

    Its memory is carried from fragment to fragment as the acting policy's is, for each worker by itself: both
    have seen the same when they are compared.

    Args:
        policy: a copy of it is taken.
    """

    LOGITS = "ppo_reference_logits"
    """Key of the batch under which the reference's action logits are kept."""

    def __init__(self, policy: MinePolicy) -> None:
        self.policy = copy.deepcopy(policy).eval().requires_grad_(False)
        self._memories: dict[str, Memory] = {}

    @torch.no_grad()
    def complete(self, batch: dict[str, Any], worker: str) -> dict[str, Any]:
        """The batch of a worker's next fragments with the reference's logits."""
        memory = self._memories.setdefault(worker, Memory())
        prepared, state = memory.prepare(batch, self.policy)
        latents, state = self.policy(prepared, state)
        memory.keep(state)
        return {**batch, self.LOGITS: latents["pi_logits"]}

    def divergence(
        self, policy: MinePolicy, latents: dict[str, Any], batch: dict[str, Any], whole: bool
    ) -> torch.Tensor:
        """KL(policy || reference) in nats, the mean over the valid steps."""
        values: torch.Tensor = policy.pi_head.kl_divergence(latents["pi_logits"], batch[self.LOGITS]).squeeze(-1)
        if whole:
            return values.mean()
        mask: torch.Tensor = batch["mask"]
        return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)

    def state_dict(self) -> dict[str, Any]:
        """Weights and memories: a resumed run is held near the same policy."""
        memories = {worker: memory.state_dict() for worker, memory in self._memories.items()}
        return {"policy": self.policy.state_dict(), "memories": memories}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self.policy.load_state_dict(state["policy"])
        for worker, saved in state["memories"].items():
            self._memories.setdefault(worker, Memory()).load_state_dict(saved)
