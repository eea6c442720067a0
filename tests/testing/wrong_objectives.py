"""Objectives with one mistake each; a class's name says in which check."""

from itertools import count
from typing import Any

import torch

from mscore import ObjectiveCallback

NUMBERS = count()


class Right(ObjectiveCallback):
    """The mean negative log-likelihood.

    Args:
        weight: factor.
    """

    needs_batch = frozenset({"agent_action"})
    mean_over = "frames"

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def logp(self, batch: dict[str, Any], latents: dict[str, Any], policy: Any) -> torch.Tensor:
        return policy.pi_head.logprob(batch["agent_action"], latents["pi_logits"])

    def mask(self, batch: dict[str, Any], like: torch.Tensor) -> torch.Tensor:
        return batch.get("mask", torch.ones_like(like, dtype=torch.bool))

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        logp = self.logp(batch, latents, mine_policy)
        mask = self.mask(batch, logp)
        loss = -logp.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)
        return {"loss": loss * self.weight, **self.more(logp, latents, batch)}

    def more(self, logp, latents, batch):
        return {"count": 3, "nll": -logp.mean().detach()} if "mask" not in batch or batch["mask"].all() else {}


class OnlyMeasures(Right):
    """No loss."""

    def __call__(self, *arguments):
        return {"accuracy": 0.5, "sure": torch.tensor([1.0])}


class MetricsWrong(Right):
    """A metric of every frame."""

    def more(self, logp, latents, batch):
        return {"logp": torch.zeros(2, 3)}


class LossWrong(Right):
    """No graph."""

    def __call__(self, *arguments):
        return {"loss": super().__call__(*arguments)["loss"].detach()}


class MetricsDetachedWrong(Right):
    """A metric with a graph."""

    def __call__(self, *arguments):
        loss = super().__call__(*arguments)["loss"]
        return {"loss": loss, "again": loss * 2}


class DeterministicWrong(Right):
    """Another number every time."""

    def __call__(self, *arguments):
        return {"loss": super().__call__(*arguments)["loss"] + 1e-3 * next(NUMBERS)}


class MaskedStepsWrong(Right):
    """Knows of no mask."""

    mean_over = None

    def mask(self, batch, like):
        return torch.ones_like(like, dtype=torch.bool)


class NothingValidWrong(Right):
    """Divides by nothing."""

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        logp = self.logp(batch, latents, mine_policy)
        mask = self.mask(batch, logp)
        return {"loss": -logp.masked_fill(~mask, 0.0).sum() / mask.sum()}


class WithoutMaskWrong(Right):
    """Without a mask nothing is valid but the first frames."""

    def mask(self, batch, like):
        return batch.get("mask", torch.arange(like.shape[1]).expand_as(like) == 0)


class SplittingTheBatchWrong(Right):
    """A sum that is declared as a mean."""

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        logp = self.logp(batch, latents, mine_policy)
        return {"loss": -logp.masked_fill(~self.mask(batch, logp), 0.0).sum()}


class StateWrong(Right):
    """Carries a number that no checkpoint has."""

    steps = 0

    def __call__(self, *arguments):
        self.steps += 1
        return {"loss": super().__call__(*arguments)["loss"] / self.steps}


class StateKept(StateWrong):
    """Carries it in checkpoints."""

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class Bf16AutocastWrong(Right):
    """numpy has no bfloat16."""

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        latents["posterior_dist"]["mu"].detach().numpy()
        return super().__call__(batch, batch_idx, step_name, latents, mine_policy)


class PicklableWrong(Right):
    """Holds a lambda.

    Args:
        weight: factor.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.function = lambda x: x


class LeavesTheBatchAloneWrong(Right):
    """Overwrites actions."""

    def before_step(self, batch, batch_idx, step_name):
        batch["agent_action"].zero_()
        return batch


class DeclaredNeedsWrong(Right):
    """Reads a key that it does not declare."""

    def more(self, logp, latents, batch):
        batch["timestamp"].float()
        return {}


class ImportsWrong:
    """Derives from nothing."""

    def __call__(self, *arguments):
        return {}


class ParametersTypedWrong(Right):
    """Has no type.

    Args:
        weight: factor.
    """

    def __init__(self, weight=1.0):
        super().__init__(weight)


class SurvivesYamlWrong(Right):
    """Has a complex default.

    Args:
        weight: factor.
        scale: no plain data.
    """

    def __init__(self, weight: float = 1.0, scale: complex = 1j) -> None:
        super().__init__(weight)


class DocumentedWrong(Right):
    """Says nothing of its parameter."""

    def __init__(self, heaviness: float = 1.0) -> None:
        super().__init__(heaviness)


class MisspeltParameterWrong(Right):
    """Takes anything.

    Args:
        weight: factor.
    """

    mscore_kwargs_of = "builtins:dict"

    def __init__(self, weight: float = 1.0, **kwargs: Any) -> None:
        super().__init__(weight)


class BuildsWrong(Right):
    """Cannot be built.

    Args:
        weight: factor.
    """

    def __init__(self, weight: float = 1.0) -> None:
        raise ValueError("never")


class NeedsMore(Right):
    """Needs what few policies have."""

    needs_latents = frozenset({"imagination"})


class Groot(ObjectiveCallback):
    """MineStudio's own, as its guide shows it: number metrics, no mask."""

    needs_latents = frozenset({"posterior_dist", "prior_dist"})

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        q, p = latents["posterior_dist"], latents["prior_dist"]
        d = q["log_var"] - p["log_var"]
        kl = -0.5 * torch.sum(1 + d - d.exp() - (q["mu"] - p["mu"]).pow(2) / p["log_var"].exp(), dim=-1)
        return {"loss": kl.mean() * self.weight, "kl_div": kl.mean(), "kl_weight": self.weight}


class Minecraft(ObjectiveCallback):
    """MineStudio's behaviour cloning: works with one action space only."""

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def __call__(self, batch, batch_idx, step_name, latents, mine_policy):
        assert "agent_action" in batch, "key `agent_action` is required for behavior cloning."
        action = batch["agent_action"]
        logp = mine_policy.pi_head.logprob(action, latents["pi_logits"], return_dict=True)
        camera_mask = (action["camera"] != 60).float().squeeze(-1)
        mask = batch.get("mask", torch.ones_like(camera_mask))
        loss = -(logp["camera"] * mask * camera_mask).sum(-1) - (logp["buttons"] * mask).sum(-1)
        return {"loss": loss.mean() * self.weight, "bc_weight": self.weight}
