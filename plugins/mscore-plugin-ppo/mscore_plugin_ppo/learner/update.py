"""From minibatches to gradients and optimizer steps."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from mscore import MinePolicy, MscoreError, ObjectiveCallback, tree_detach
from mscore_plugin_ppo.learner.loss import LossSettings, diagnostics, ppo_loss
from mscore_plugin_ppo.learner.minibatches import Minibatch, chunks
from mscore_plugin_ppo.learner.ranks import Ranks
from mscore_plugin_ppo.learner.reference import Reference
from mscore_plugin_ppo.rollouts.versions import ValueScale


@dataclass
class Update:
    """What an iteration's updates are made with; see ``PPOTrainer`` for the meaning of the numbers."""

    settings: LossSettings
    scale: ValueScale
    context_length: int
    gradient_accumulation: int = 1
    max_grad_norm: float = 0.5
    kl_coef: float = 0.0
    values_only: bool = False


@dataclass
class Tally:
    """Sums of the metrics of an iteration's minibatches."""

    skipped: int = 0
    """Updates that were left out because their gradient was not finite."""
    steps: int = 0
    """Optimizer steps that were taken."""
    blamed: str = ""
    """The term whose value was not finite, in the first update that was left out."""
    _sums: dict[tuple[str, ...], tuple[torch.Tensor, int]] = field(default_factory=dict)

    def add(self, metrics: Mapping[str, Any]) -> None:
        """Add the metrics of a minibatch, which are averaged over those that have them."""
        names = tuple(metrics)
        values = torch.stack([torch.as_tensor(value, dtype=torch.float32) for value in metrics.values()])
        total, count = self._sums.get(names, (0.0, 0))
        self._sums[names] = (total + values, count + 1)

    def means(self) -> dict[str, float]:
        """Mean of every metric."""
        totals: dict[str, float] = {}
        counts: dict[str, int] = {}
        for names, (total, count) in self._sums.items():
            for name, value in zip(names, total.tolist(), strict=True):
                totals[name] = totals.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + count
        return {name: total / counts[name] for name, total in totals.items()}


class Learner:
    """Takes gradients of the loss and of the objectives, and steps the optimizer.

    An update whose gradient is not finite is left out and counted; with several processes the gradient is
    looked at after it was averaged, so that all leave it out together. The gradient's norm is the one number that
    a step waits for.

    Args:
        model: the policy, or what wraps it.
        policy: the policy itself.
        optimizer: of the policy's parameters.
        scheduler: stepped with the optimizer.
        objectives: by label; their losses are added to PPO's.
        reference: the policy that the KL term holds it near, where there is one.
        ranks: the processes whose gradients are averaged.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        policy: MinePolicy,
        optimizer: torch.optim.Optimizer,
        scheduler: LRScheduler | None = None,
        objectives: Mapping[str, ObjectiveCallback] | None = None,
        reference: Reference | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.model = model
        self.policy = policy
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.objectives = dict(objectives or {})
        self.reference = reference
        self.ranks = ranks or Ranks()
        self._parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        self._batches = 0
        self._since_step: list[dict[str, Any]] = []

    def epoch(self, minibatches: Iterable[Minibatch], update: Update, tally: Tally, *, measure: bool) -> None:
        """Learn from minibatches, one after the other.

        Args:
            minibatches: all data once.
            update: what the updates are made with.
            tally: gets the metrics.
            measure: also measure how far the policy has moved.
        """
        pending = 0
        for minibatch in minibatches:
            self._accumulate(minibatch, update, tally, measure)
            pending += 1
            if pending == update.gradient_accumulation:
                self._step(update, tally)
                pending = 0
        if pending:
            self._step(update, tally)

    def _accumulate(self, minibatch: Minibatch, update: Update, tally: Tally, measure: bool) -> None:
        state = minibatch.state
        for batch, share in chunks(minibatch, update.context_length):
            latents, state = self.model(batch, state)
            loss, metrics = self._loss(batch, latents, minibatch.whole, update)
            if measure:
                moved = diagnostics(update.settings, self.policy, latents, batch)
                metrics.update({f"train/ppo/{name}": value for name, value in moved.items()})
            factor = share / update.gradient_accumulation
            torch.autograd.backward(loss if factor == 1.0 else loss * factor)
            state = tree_detach(state)
            self._batches += 1
            self._since_step.append(metrics)
            tally.add(metrics)

    def _loss(
        self, batch: dict[str, Any], latents: dict[str, Any], whole: bool, update: Update
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        loss, terms = ppo_loss(
            update.settings, self.policy, latents, batch, update.scale, whole=whole, values_only=update.values_only
        )
        metrics: dict[str, Any] = {f"train/ppo/{name}": value for name, value in terms.items()}
        if self.reference is not None and update.kl_coef:
            divergence = self.reference.divergence(self.policy, latents, batch, whole)
            loss = loss + update.kl_coef * divergence
            metrics["train/ppo/reference_kl"] = divergence.detach()
        for label, objective in self.objectives.items():
            try:
                result = objective(batch, self._batches, "train", latents, self.policy)
            except Exception as error:
                error.add_note(f"in objective {label!r} ({type(objective).__module__}), minibatch {self._batches}")
                raise
            if "loss" in result:
                loss = loss + result["loss"]
            metrics.update({f"train/{label}/{key}": _detached(value) for key, value in result.items()})
        metrics["train/loss"] = loss.detach()
        return loss, metrics

    def _step(self, update: Update, tally: Tally) -> None:
        self.ranks.average_gradients(self._parameters)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        size = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))).item()
        if not math.isfinite(size):
            tally.skipped += 1
            tally.blamed = tally.blamed or _not_finite(self._since_step)
        else:
            if update.max_grad_norm and size > update.max_grad_norm:
                torch._foreach_mul_(gradients, update.max_grad_norm / (size + 1e-6))
            self.optimizer.step()
            if self.scheduler is not None:
                self.scheduler.step()
            tally.steps += 1
        self._since_step.clear()
        for parameter in self._parameters:
            parameter.grad = None

    def refuse_if_all_skipped(self, tally: Tally) -> None:
        """Stop where not a single update of an iteration was sound.

        Raises:
            MscoreError: naming the term that was not finite.
        """
        if tally.skipped and not tally.steps:
            raise MscoreError(
                f"no update of this iteration had a finite gradient; {tally.blamed} was the first that was not finite. "
                "Checkpoints saved before are untouched. Lower the learning rate, or look at the rewards"
            )


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, torch.Tensor) else float(value)


def _not_finite(minibatches: Iterable[Mapping[str, Any]]) -> str:
    """The first metric that is not finite. Looked for only when something is: on a GPU looking means waiting."""
    for metrics in minibatches:
        for name, value in metrics.items():
            if not math.isfinite(float(value)):
                return name
    return "the gradient"
