"""The Lightning module that trains a policy with objectives."""

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.profilers import PassThroughProfiler
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from mscore.components import note_plugin
from mscore.contracts.averaging import find_averaged_weights
from mscore.contracts.objective import Batch, ObjectiveCallback
from mscore.contracts.policy import MinePolicy
from mscore.errors import MscoreError
from mscore.offline import random_state
from mscore.offline.labels import numbered_labels
from mscore.offline.memory import Continuity, Memory
from mscore.offline.metrics import NonFinite, StepMetrics, Window, blame, means, merge
from mscore.offline.optimizers import LinearWarmup, adamw
from mscore.offline.plain_config import convert_to_normal

OptimizerFactory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
SchedulerFactory = Callable[[torch.optim.Optimizer], LRScheduler]

# Lightning says once per hook that a module's own is preferred to a data module's that there is not.
warnings.filterwarnings(
    "ignore", r"You have overridden `(on_before_batch_transfer|transfer_batch_to_device)` in `Light"
)

MEMORY_KEY = "memory"
"""Checkpoint key of the training memory, one entry per rank."""
OBJECTIVES_KEY = "objectives"
"""Checkpoint key of the states of objectives that are no modules, by label, one entry per rank."""
RANDOM_STATE_KEY = "random_state"
"""Checkpoint key of the random generators' states, one entry per rank."""


class MineLightning(pl.LightningModule):
    """Trains a policy with the sum of its objectives' losses.

    It carries the policy's memory from batch to batch (see ``mscore.offline.memory``), logs what the
    objectives report as ``<train|val>/<label>/<key>`` with the summed loss as ``<train|val>/loss``, and
    keeps memory and random states in checkpoints, so that a resumed fit goes on exactly.

    Args:
        mine_policy: the policy to train.
        callbacks: the objectives, as a sequence, or as a mapping of label to objective. In a sequence
            an objective's label is its registered name, numbered where one occurs twice.
        hyperparameters: logged by the loggers and stored in checkpoints; OmegaConf containers are
            converted to plain Python.
        log_freq: optimizer steps between two rows of training metrics; a row is the mean since the last.
        learning_rate: AdamW's.
        warmup_steps: optimizer steps of linear warm-up.
        weight_decay: AdamW's, on every parameter.
        optimizer: makes another optimizer from the trainable parameters; ``learning_rate`` and
            ``weight_decay`` are then not used.
        scheduler: makes another scheduler from the optimizer, stepped with it; ``warmup_steps`` is then
            not used.
    """

    def __init__(
        self,
        mine_policy: MinePolicy,
        callbacks: Sequence[ObjectiveCallback] | Mapping[str, ObjectiveCallback] = (),
        hyperparameters: Any = None,
        *,
        log_freq: int = 20,
        learning_rate: float = 1e-5,
        warmup_steps: int = 1000,
        weight_decay: float = 0.01,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
    ) -> None:
        super().__init__()
        self.mine_policy = mine_policy
        self.callbacks = dict(callbacks) if isinstance(callbacks, Mapping) else numbered_labels(callbacks)
        self.objectives = nn.ModuleDict(
            {label: value for label, value in self.callbacks.items() if isinstance(value, nn.Module)}
        )
        self.log_freq = log_freq
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.weight_decay = weight_decay
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._memories = {"train": Memory(), "val": Memory()}
        self._windows = {"train": Window(), "val": Window()}
        self._checked: set[str] = set()
        self._next_flush = 0
        self._monitored: frozenset[str] = frozenset()
        self._restored: dict[str, Any] = {}
        hyperparameters = convert_to_normal(hyperparameters or {})
        self.save_hyperparameters(hyperparameters)

    # --- the step -------------------------------------------------------------------------------

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Perform a training step.

        Args:
            batch: the batch, on the module's device.
            batch_idx: index of the batch in the epoch.

        Returns:
            ``loss`` with its graph, and every metric under ``train/…``.
        """
        return self._batch_step(batch, batch_idx, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Perform a validation step.

        Args:
            batch: the batch, on the module's device.
            batch_idx: index of the batch in the epoch.

        Returns:
            ``loss``, and every metric under ``val/…``.
        """
        return self._batch_step(batch, batch_idx, "val")

    def _batch_step(self, batch: Batch, batch_idx: int, step_name: str) -> dict[str, Any]:
        if type(batch) is not dict and not isinstance(batch, Mapping):
            raise MscoreError(
                f"the data module gave a {step_name} batch of type {type(batch).__name__}; expected a dict of "
                "observations, `agent_action`, `mask` and so on by name"
            )
        memory = self._memories[step_name]
        try:
            for objective in self.callbacks.values():
                batch = objective.before_step(batch, batch_idx, step_name)
            batch, state_in = memory.prepare(batch, self.mine_policy)
            latents, state_out = self.mine_policy(batch, state_in)
        except Exception as error:
            note_plugin(error)
            raise
        memory.keep(state_out)
        if step_name not in self._checked:
            self._refuse_missing_keys(batch, latents, step_name)
        metrics = StepMetrics()
        losses: list[torch.Tensor] = []
        for label, objective in self.callbacks.items():
            result = self._evaluate(label, objective, batch, batch_idx, step_name, latents)
            for key, value in result.items():
                metrics.add(f"{step_name}/{label}/{key}", value)
            if "loss" in result:
                losses.append(result["loss"])
        loss = self._total(losses, step_name)
        metrics.add(f"{step_name}/loss", loss)
        stacked = metrics.stacked()
        where = (step_name, self.current_epoch, batch_idx, batch.get("episode"))
        if stacked.device.type == "cpu" and not math.isfinite(loss.item()):
            # There is no device to wait for here, so a bad loss is caught before it reaches the weights.
            self._refuse(blame(metrics.names, stacked.tolist(), where))
        self._windows[step_name].add(metrics, stacked, where, _row_count(batch) if step_name == "val" else 1.0)
        return {"loss": loss, **metrics.numbers, **dict(zip(metrics.names, metrics.tensors, strict=True))}

    def _evaluate(
        self, label: str, objective: ObjectiveCallback, batch: Batch, batch_idx: int, step_name: str, latents: Any
    ) -> Mapping[str, Any]:
        try:
            result = objective(batch, batch_idx, step_name, latents, self.mine_policy)
        except KeyError as error:
            raise MscoreError(
                f"objective {label!r} asked for the key {error} in the {step_name} step. The batch has "
                f"{sorted(map(str, batch))}, the policy's latents have {sorted(map(str, latents))}"
            ) from error
        except Exception as error:
            note_plugin(error)
            error.add_note(f"in objective {label!r} ({type(objective).__module__}), {step_name} batch {batch_idx}")
            raise
        if not isinstance(result, Mapping):
            raise MscoreError(
                f"objective {label!r} returned {type(result).__name__}; expected a mapping of key to "
                "tensor or number, with the term to train under 'loss'"
            )
        return result

    def _total(self, losses: list[torch.Tensor], step_name: str) -> torch.Tensor:
        if not losses:
            raise MscoreError(
                f"none of the objectives ({', '.join(self.callbacks) or 'there are none'}) returned a 'loss' in "
                f"the {step_name} step; a run needs at least one that does, such as behaviour cloning"
            )
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        if not isinstance(total, torch.Tensor):
            raise MscoreError(f"the objectives' losses are numbers ({total!r}); a loss must be a tensor")
        return total

    def _refuse_missing_keys(self, batch: Batch, latents: Mapping[str, Any], step_name: str) -> None:
        """Once per kind of step: what the objectives declare to need must be there."""
        for label, objective in self.callbacks.items():
            for declared, present, owner in (
                (getattr(objective, "needs_batch", ()), batch, "the batch"),
                (getattr(objective, "needs_latents", ()), latents, "the policy's latents"),
            ):
                for key in sorted(set(declared) - set(present)):
                    raise MscoreError(
                        f"objective {label!r} needs {key!r}, which {owner} of the {step_name} step lack"
                        f"{'s' if owner == 'the batch' else ''}; there are: {', '.join(sorted(map(str, present)))}"
                    )
        self._checked.add(step_name)

    def _refuse(self, found: NonFinite | None) -> None:
        """Stop at a loss that is not finite, naming the objective and the batch."""
        if found is None:
            return
        parts = found.name.split("/")
        label = repr(parts[1]) if len(parts) > 2 else "the sum of all"
        step_name, epoch, batch_idx, episodes = found.where
        held = f", episodes {', '.join(map(str, episodes[:8]))}" if episodes else ""
        raise MscoreError(
            f"objective {label} gave a loss of {found.value} in {step_name} batch {batch_idx} of epoch {epoch}{held}. "
            "Checkpoints saved before are untouched. Lower the learning rate, clip gradients "
            "(trainer.gradient_clip_val), or look at that batch."
        )

    # --- around the step ------------------------------------------------------------------------

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Read episodes and timestamps while they are still on the host."""
        return Continuity.attach(batch)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch's tensors; Lightning's own way visits every string of the lists as well."""
        if not isinstance(batch, dict):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        return {key: _moved(value, device) for key, value in batch.items()}

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the one that Lightning sets around every hook skips torch's bookkeeping."""
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        """Spare the step the cost of measuring nothing, unless the trainer was given a profiler."""
        if type(self.trainer.profiler) is PassThroughProfiler:  # type: ignore[attr-defined]
            self.trainer.profiler = _NoProfiler()  # type: ignore[attr-defined]

    def on_train_start(self) -> None:
        """Find out which metrics are monitored, and restore the random states of a resumed fit."""
        monitored = {getattr(callback, "monitor", None) for callback in self.trainer.callbacks}  # type: ignore[attr-defined]
        self._monitored = frozenset(name for name in monitored if name)
        self._next_flush = self.global_step + 1
        state = self._restored.pop(RANDOM_STATE_KEY, None)
        if state is not None:
            random_state.restore(state)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Flush the training metrics: after the first step, then every ``log_freq`` optimizer steps."""
        if self.global_step >= self._next_flush:
            self._flush_training()

    def on_train_end(self) -> None:
        """Flush the steps since the last row."""
        if len(self._windows["train"]):
            self._flush_training(final=True)

    def _flush_training(self, final: bool = False) -> None:
        step = self.global_step
        # The first row comes after one step; the others lie on multiples of log_freq.
        self._next_flush = (step // self.log_freq + 1) * self.log_freq
        self._refuse(self._windows["train"].first_non_finite())
        values = means(self._sums_of_all_ranks("train"))
        for logger in self.loggers:
            logger.log_metrics(values, step=step)
        if final:
            return
        for name, value in values.items():
            shown = name == "train/loss" and self.trainer.progress_bar_callback is not None
            if shown or name in self._monitored:
                self.log(name, value, logger=False, prog_bar=shown, rank_zero_only=False, batch_size=1)

    def on_validation_epoch_start(self) -> None:
        """Validation begins with an empty memory of its own."""
        self._memories["val"].clear()
        self._windows["val"] = Window()

    def on_validation_epoch_end(self) -> None:
        """Log the validation's means over all rows that have a valid frame."""
        if not len(self._windows["val"]):
            return
        values = means(self._sums_of_all_ranks("val"))
        distributed = self.trainer.world_size > 1
        for name, value in values.items():
            # The ranks agree already; saying so again is what keeps Lightning from warning.
            self.log(name, value, logger=False, prog_bar=name == "val/loss", batch_size=1, sync_dist=distributed)
        if not self.trainer.sanity_checking:
            for logger in self.loggers:
                logger.log_metrics(values, step=self.global_step)

    def _sums_of_all_ranks(self, step_name: str) -> dict[str, tuple[float, float]]:
        sums = self._windows[step_name].sums()
        if self.trainer.world_size == 1:
            return sums
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, sums)
        return merge(parts)

    # --- optimizer and checkpoints --------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """AdamW and linear warm-up, or what was given instead.

        Returns:
            Lightning's dict: the optimizer, and the scheduler stepped after every optimizer step.
        """
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if self._make_optimizer is not None:
            optimizer = self._make_optimizer(parameters)
        else:
            optimizer = adamw(parameters, self.learning_rate, self.weight_decay)
        if self._trainer is not None and self.trainer.gradient_clip_val:
            # A fused kernel may unscale gradients itself, too late for clipping, so Lightning refuses the
            # two together. Without this mark they are unscaled before they are clipped, fused or not.
            optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        scheduler = (self._make_scheduler or self._warmup)(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _warmup(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        return LinearWarmup(optimizer, self.warmup_steps)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep every rank's memory and random states in a full checkpoint; refuse to save bad weights."""
        self._refuse(self._windows["train"].first_non_finite())
        if "optimizer_states" not in checkpoint:
            return
        own = {
            MEMORY_KEY: self._memories["train"].state_dict(),
            OBJECTIVES_KEY: {label: objective.state_dict() for label, objective in self._stateful_objectives()},
            RANDOM_STATE_KEY: random_state.capture(),
        }
        ranks: list[Any] = [own]
        if self._trainer is not None and self.trainer.world_size > 1:
            ranks = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(ranks, own)
        for key in own:
            checkpoint[key] = [rank[key] for rank in ranks]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back this rank's part of what :meth:`on_save_checkpoint` kept, if as many ranks resume.

        MineStudio's checkpoints wrap the optimizer's state where weights were averaged; without a callback
        that averages, the wrapping is taken off.
        """
        states = checkpoint.get("optimizer_states")
        if states and find_averaged_weights(self.trainer.callbacks) is None:  # type: ignore[attr-defined]
            checkpoint["optimizer_states"] = [state.get("opt", state) for state in states]
        memories = checkpoint.get(MEMORY_KEY)
        if memories is None:
            return
        if len(memories) != self.trainer.world_size:
            pl.utilities.rank_zero_warn(
                f"the checkpoint was written by {len(memories)} processes and is resumed by "
                f"{self.trainer.world_size}: memory and random states begin anew"
            )
            return
        rank = self.trainer.global_rank
        self._memories["train"].load_state_dict(memories[rank])
        kept = checkpoint[OBJECTIVES_KEY][rank]
        for label, objective in self._stateful_objectives():
            if label in kept:
                objective.load_state_dict(kept[label])
        self._restored[RANDOM_STATE_KEY] = checkpoint[RANDOM_STATE_KEY][rank]

    def _stateful_objectives(self) -> list[tuple[str, Any]]:
        """Objectives whose state is not in the module's own ``state_dict``, with their labels."""
        return [
            (label, objective)
            for label, objective in self.callbacks.items()
            if hasattr(objective, "state_dict") and not isinstance(objective, nn.Module)
        ]


# Lightning asks for the parameters of the training step at every step; inspect finds them here at once.
MineLightning.training_step.__signature__ = inspect.signature(MineLightning.training_step)  # type: ignore[attr-defined]


class _NoProfiler(PassThroughProfiler):
    """Lightning's default profiler opens a generator's context about forty times per step, for nothing."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        return self._nothing


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple) and _begins_with_tensors(value):
        return type(value)(_moved(item, device) for item in value)
    return value


def _begins_with_tensors(value: Any) -> bool:
    """Whether a list may hold tensors; names, text and records come as lists of B items, or of B lists of T."""
    sample = value
    while isinstance(sample, list | tuple) and sample:
        sample = sample[0]
    if isinstance(sample, dict):
        return any(_begins_with_tensors(item) for item in sample.values())
    return isinstance(sample, torch.Tensor)


def _row_count(batch: Batch) -> torch.Tensor | float:
    """Rows that hold a valid frame: how much a validation batch counts."""
    mask = batch.get("mask")
    if isinstance(mask, torch.Tensor):
        return mask.bool().any(dim=1).sum()
    return 1.0
