"""The trainer of proximal policy optimization."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from mscore import MinePolicy, ObjectiveCallback, tree_map
from mscore_plugin_ppo.learner.loss import ADVANTAGES, OLD_LOGPS, OLD_VPREDS, TARGETS, LossSettings
from mscore_plugin_ppo.learner.minibatches import Minibatches, has_memory
from mscore_plugin_ppo.learner.modes import learn_as_it_acts
from mscore_plugin_ppo.learner.ranks import Ranks
from mscore_plugin_ppo.learner.reference import Reference
from mscore_plugin_ppo.learner.update import Learner, Tally, Update
from mscore_plugin_ppo.rollouts.fragments import Episode, Fragments, concatenated, joined_states
from mscore_plugin_ppo.trainers.base import CHECKPOINT_KEY, BaseTrainer
from mscore_plugin_ppo.trainers.checkpoints import CheckpointFolder

RECENT = 100
"""Episodes over which the rollouts' returns are averaged."""


class Monitor(Protocol):
    """Looks on while a trainer trains: logs, evaluates, saves, stops.

    Where several processes train, it looks on in rank 0's. One that saves has an attribute ``on_every_rank`` that
    is true, and looks on in all of them: each has a part of what is saved.
    """

    def on_start(self, trainer: "PPOTrainer") -> None:
        """Training begins, or goes on."""

    def on_iteration(self, trainer: "PPOTrainer", metrics: Mapping[str, float]) -> None:
        """An iteration is done; its metrics by name."""

    def on_end(self, trainer: "PPOTrainer") -> None:
        """Training is over or was asked to stop."""

    def close(self) -> None:
        """Called last, also after an error."""


class PPOTrainer(BaseTrainer):
    """Proximal policy optimization (Schulman et al. 2017), with objectives and a KL term to a reference.

    An iteration fetches ``num_workers * batch_size_per_gpu * batches_per_iteration`` fragments, learns from
    them ``epochs_per_iteration`` times, and broadcasts the new weights. Objectives are evaluated on the same
    minibatches; they complete each fragment once (``before_step``), with rows that go on where they stopped.

    Args:
        rollout_manager: see ``BaseTrainer``, as for everything that is not listed here.
        policy_generator: makes the policy; what it makes first is also the reference of the KL term.
        env_generator: makes one environment.
        num_iterations: how many iterations; None for as many as ``max_env_steps`` needs.
        max_env_steps: steps in environments after which training ends, at the end of an iteration.
        learning_rate: AdamW's.
        anneal_lr_linearly: lower the learning rate to 0 over ``num_iterations``.
        weight_decay: AdamW's.
        adam_eps: AdamW's.
        batch_size_per_gpu: fragments of a minibatch. For a policy without memory it is as many frames as
            these have, shuffled across all fragments.
        batches_per_iteration: minibatches of an epoch.
        gradient_accumulation: minibatches whose gradients make one optimizer step.
        epochs_per_iteration: how often each fragment is learned from.
        vf_warmup: iterations at the beginning in which the policy's own loss is left out: the value
            estimates are trained, objectives hold the policy, and so does the KL term with weight 1.
        ppo_clip: how far the probability ratio may move before its gradient ends.
        clip_vloss: clip the value estimate's move too.
        max_grad_norm: gradients are scaled down to this norm; 0 for never.
        zero_initial_vf: begin with value estimates of 0.
        ppo_vf_coef: weight of the value loss.
        ppo_policy_coef: weight of the policy loss.
        kl_divergence_coef_rho: weight of KL(policy || policy at the beginning); 0 for none.
        entropy_bonus_coef: weight of the entropy bonus.
        coef_rho_decay: ``kl_divergence_coef_rho`` is multiplied by it after every iteration.
        normalize_advantage_full_batch: normalize advantages over all fragments of an iteration; False
            normalizes each minibatch's.
        log_ratio_range: the logarithm of the probability ratio is cut off above this.
        save_interval: iterations between two checkpoints in ``save_path``.
        save_path: folder of the checkpoints; None writes none.
        keep_interval: checkpoints of multiples of this many iterations are kept; of the others the last.
        whole_config: stored in checkpoints.
        objectives: by label; their losses are added.
        monitors: look on.
        **kwargs: the arguments of ``BaseTrainer``.
    """

    def __init__(
        self,
        rollout_manager: Any,
        policy_generator: Any,
        env_generator: Any,
        *,
        num_iterations: int | None = None,
        max_env_steps: int | None = None,
        learning_rate: float = 2e-5,
        anneal_lr_linearly: bool = False,
        weight_decay: float = 0.0,
        adam_eps: float = 1e-8,
        batch_size_per_gpu: int = 2,
        batches_per_iteration: int = 4,
        gradient_accumulation: int = 1,
        epochs_per_iteration: int = 4,
        vf_warmup: int = 0,
        ppo_clip: float = 0.2,
        clip_vloss: bool = False,
        max_grad_norm: float = 0.5,
        zero_initial_vf: bool = False,
        ppo_vf_coef: float = 0.5,
        ppo_policy_coef: float = 1.0,
        kl_divergence_coef_rho: float = 0.0,
        entropy_bonus_coef: float = 0.0,
        coef_rho_decay: float = 1.0,
        normalize_advantage_full_batch: bool = True,
        log_ratio_range: float = 50.0,
        save_interval: int = 10,
        save_path: str | Path | None = None,
        keep_interval: int = 40,
        whole_config: Any = None,
        objectives: Mapping[str, ObjectiveCallback] | None = None,
        monitors: Sequence[Monitor] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(rollout_manager, policy_generator, env_generator, **kwargs)
        self.num_iterations = num_iterations
        self.max_env_steps = max_env_steps
        self.learning_rate = learning_rate
        self.anneal_lr_linearly = anneal_lr_linearly
        self.weight_decay = weight_decay
        self.adam_eps = adam_eps
        self.batch_size_per_gpu = batch_size_per_gpu
        self.gradient_accumulation = gradient_accumulation
        self.epochs_per_iteration = epochs_per_iteration
        self.vf_warmup = vf_warmup
        self.max_grad_norm = max_grad_norm
        self.zero_initial_vf = zero_initial_vf
        self.kl_divergence_coef_rho = kl_divergence_coef_rho
        self.coef_rho_decay = coef_rho_decay
        self.normalize_advantage_full_batch = normalize_advantage_full_batch
        self.whole_config = whole_config
        self.objectives = dict(objectives or {})
        self.settings = LossSettings(
            ppo_clip, clip_vloss, ppo_vf_coef, ppo_policy_coef, entropy_bonus_coef, log_ratio_range
        )
        self.fragments_per_iteration = max(1, self.num_workers) * batch_size_per_gpu * batches_per_iteration
        folder = [] if save_path is None else [CheckpointFolder(Path(save_path), save_interval, keep_interval)]
        self.monitors: list[Monitor] = [*monitors, *folder]
        self.iteration = 0
        self.recent: deque[Episode] = deque(maxlen=RECENT)
        self.reference: Reference | None = None

    def setup_model_and_optimizer(self) -> tuple[MinePolicy, torch.optim.Optimizer]:
        """The policy, and AdamW, fused into one kernel."""
        policy = self.policy_generator()
        optimizer = torch.optim.AdamW(
            policy.parameters(), self.learning_rate, eps=self.adam_eps, weight_decay=self.weight_decay, fused=True
        )
        return policy, optimizer

    @property
    def rho(self) -> float:
        """Weight of the KL term in this iteration."""
        if not self.kl_divergence_coef_rho:
            return 0.0
        return (
            1.0
            if self.iteration < self.vf_warmup
            else self.kl_divergence_coef_rho * self.coef_rho_decay**self.iteration
        )

    @property
    def is_over(self) -> bool:
        """Whether training has reached its end."""
        if self.num_iterations is not None and self.iteration >= self.num_iterations:
            return True
        return self.max_env_steps is not None and self.env_steps >= self.max_env_steps

    def train(self) -> dict[str, float]:
        """Iterate until the end, or until a monitor asks to stop.

        Returns:
            The metrics of the last iteration.
        """
        self._begin()
        metrics: dict[str, float] = {}
        leads = self.ranks.rank == 0
        monitors = [one for one in self.monitors if leads or getattr(one, "on_every_rank", False)]
        try:
            for monitor in monitors:
                monitor.on_start(self)
            while not (self.is_over or self._agreed_to_stop()):
                metrics = self.iterate()
                for monitor in monitors:
                    monitor.on_iteration(self, metrics)
            for monitor in monitors:
                monitor.on_end(self)
        finally:
            for monitor in monitors:
                monitor.close()
        return metrics

    def _agreed_to_stop(self) -> bool:
        """Whether any training process, or whoever called ``fit`` elsewhere, wants to stop."""
        if self.stop_asked is not None and self.stop_asked():
            self.should_stop = True
        self.should_stop = any(self.ranks.gather(self.should_stop))
        return self.should_stop

    def _begin(self) -> None:
        if self.zero_initial_vf and not self.iteration:
            self.values.begin_at_zero()
            self.broadcast_model_to_rollout_workers(new_version=False)
        self._reference()
        self.recurrent = has_memory(self.policy)
        self.learner = Learner(
            self.model, self.policy, self.optimizer, self.scheduler, self.objectives, self.reference, self.ranks
        )
        for objective in self.objectives.values():
            if isinstance(objective, torch.nn.Module):
                objective.to(self.device)

    def _reference(self) -> Reference | None:
        if self.reference is None and self.kl_divergence_coef_rho:
            self.reference = Reference(self.policy)
        return self.reference

    def iterate(self) -> dict[str, float]:
        """Fetch, learn, broadcast: one iteration, and its metrics."""
        data = self.fetch_fragments_and_estimate_advantages(num_fragments=self.fragments_per_iteration)
        batch, state = self._prepared(data)
        self.values.update(data[TARGETS][data["valid"]].unsqueeze(0))
        update = Update(
            self.settings,
            self.values.scale,
            self.context_length,
            self.gradient_accumulation,
            self.max_grad_norm,
            self.rho,
            values_only=self.iteration < self.vf_warmup,
        )
        tally = self._learn(batch, state, update)
        self.learner.refuse_if_all_skipped(tally)
        metrics = {**averaged(self.ranks.gather(tally.means())), **self._described(data, update, tally)}
        self.iteration += 1
        if self.anneal_lr_linearly and self.num_iterations:
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * (1.0 - self.iteration / self.num_iterations)
        self.broadcast_model_to_rollout_workers(new_version=True)
        return metrics

    def _prepared(self, data: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """The fragments as one batch, completed by the objectives, with what the loss needs."""
        records: list[Fragments] = data["records"]
        for record in records:
            if record.prepared is None:
                record.prepared = self._completed(record)
        batch = concatenated([record.prepared for record in records if record.prepared is not None])
        batch |= {key: data[key] for key in (ADVANTAGES, TARGETS, OLD_LOGPS, OLD_VPREDS)}
        if self.normalize_advantage_full_batch:
            batch[ADVANTAGES] = normalized(batch[ADVANTAGES], data["valid"], self.ranks)
        state = joined_states([record.state for record in records])
        return batch, tree_map(lambda leaf: leaf.to(self.device), state)

    def _completed(self, record: Fragments) -> dict[str, Any]:
        batch: dict[str, Any] = tree_map(lambda leaf: leaf.to(self.device), record.batch())
        for objective in self.objectives.values():
            batch = objective.before_step(batch, self.iteration, "train")
        return batch if self.reference is None else self.reference.complete(batch, record.worker)

    def _learn(self, batch: dict[str, Any], state: Any, update: Update) -> Tally:
        tally = Tally()
        learn_as_it_acts(self.policy)
        pool = self.readers()
        with pool if pool is not None else nullcontext():
            minibatches = Minibatches(
                batch,
                state,
                recurrent=self.recurrent,
                size=self.batch_size_per_gpu,
                random=self.order,
                readers=pool,
                ahead=self.prefetch_batches,
            )
            # Where environments are being replaced, frames are missing: all processes take as many gradients.
            minibatches.count = max(self.ranks.gather(minibatches.count))
            for epoch in range(self.epochs_per_iteration):
                found = minibatches.epoch()
                if not self.normalize_advantage_full_batch:
                    found = (one._replace(batch=self._with_normalized(one.batch)) for one in found)
                self.learner.epoch(found, update, tally, measure=epoch == self.epochs_per_iteration - 1)
        return tally

    def _with_normalized(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {**batch, ADVANTAGES: normalized(batch[ADVANTAGES], batch["mask"], self.ranks)}

    def _described(self, data: dict[str, Any], update: Update, tally: Tally) -> dict[str, float]:
        assert self.rollout_manager is not None
        shares = self.ranks.gather(Share.of(data, self.version, self.rollout_manager.health()))
        for share in shares:
            self.recent.extend(share.episodes)
        metrics = {
            "train/ppo/explained_variance": sum(share.explained_variance for share in shares) / len(shares),
            "train/ppo/skipped_updates": float(tally.skipped),
            "train/learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            "rollout/staleness": float(max(share.staleness for share in shares)),
        }
        if self.reference is not None:
            metrics["train/ppo/rho"] = update.kl_coef
        if self.recent:
            count = len(self.recent)
            metrics["rollout/return"] = sum(one.episode_return for one in self.recent) / count
            metrics["rollout/length"] = sum(one.length for one in self.recent) / count
            if any(one.success is not None for one in self.recent):
                metrics["rollout/success"] = sum(one.success is True for one in self.recent) / count
        health = sum((Counter(share.health) for share in shares), Counter({"dropped": 0}))
        return {**metrics, **{f"rollout/{name}": float(count) for name, count in health.items()}}

    def checkpoint(self) -> dict[str, Any]:
        """What a checkpoint holds; see ``BaseTrainer.checkpoint``."""
        saved = super().checkpoint()
        saved["hyper_parameters"] = self.whole_config if isinstance(self.whole_config, dict) else {}
        saved[CHECKPOINT_KEY] |= {
            "iteration": self.iteration,
            "recent": [[one.episode_return, one.length, one.success] for one in self.recent],
        }
        return saved

    def rank_state(self) -> dict[str, Any]:
        """What this training process goes on from for itself; see ``BaseTrainer.rank_state``."""
        return super().rank_state() | {
            "objectives": {label: one.state_dict() for label, one in self._stateful()},
            "reference": None if self.reference is None else self.reference.state_dict(),
        }

    def load_rank_state(self, saved: dict[str, Any]) -> None:
        """Take back what :meth:`rank_state` gave."""
        super().load_rank_state(saved)
        for label, objective in self._stateful():
            if label in saved["objectives"]:
                objective.load_state_dict(saved["objectives"][label])
        if self.reference is not None and saved["reference"] is not None:
            self.reference.load_state_dict(saved["reference"])

    def load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from a checkpoint; see ``BaseTrainer.load_checkpoint``."""
        self._reference()
        super().load_checkpoint(checkpoint)
        saved = checkpoint.get(CHECKPOINT_KEY)
        if saved is None or "iteration" not in saved:
            self.reference = None  # the policy at the beginning is the one that was just loaded
            return
        self.iteration = saved["iteration"]
        self.recent.extend(Episode(*one) for one in saved["recent"])

    def _stateful(self) -> list[tuple[str, Any]]:
        return [(label, one) for label, one in self.objectives.items() if hasattr(one, "state_dict")]


@dataclass(frozen=True)
class Share:
    """What one training process has to say about an iteration's fragments."""

    episodes: list[Episode]
    """That ended in fragments that are new."""
    explained_variance: float
    staleness: int
    health: dict[str, int]

    @classmethod
    def of(cls, data: dict[str, Any], version: int, health: dict[str, int]) -> "Share":
        """Look at a process's fragments."""
        records: list[Fragments] = data["records"]
        valid, target = data["valid"], data[TARGETS]
        error = (target - data[OLD_VPREDS])[valid]
        spread = target[valid].var()
        return cls(
            [episode for record in records if record.uses == 1 for episode in record.episodes],
            float(1.0 - error.var() / spread) if spread > 0 else 0.0,
            version - min(record.version for record in records),
            health,
        )


def averaged(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every metric."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def normalized(advantages: torch.Tensor, valid: torch.Tensor, ranks: Ranks) -> torch.Tensor:
    """Advantages with mean 0 and deviation 1 over the valid steps of all training processes."""
    chosen = advantages[valid]
    if ranks.world == 1:
        return (advantages - chosen.mean()) / (chosen.std() + 1e-8)
    total, count = ranks.sum(torch.stack([chosen.sum(), torch.ones_like(chosen).sum()]))
    mean = total / count
    variance = ranks.sum((chosen - mean).square().sum()) / (count - 1)
    result: torch.Tensor = (advantages - mean) / (variance.sqrt() + 1e-8)
    return result
