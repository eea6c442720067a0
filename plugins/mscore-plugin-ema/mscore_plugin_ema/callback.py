"""The callback: averages during training, averaged weights in evaluation and in checkpoints."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any

import torch
from annotated_types import Ge, Interval
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from mscore import AVERAGED_WEIGHTS_KEY, is_averaged_twin
from mscore_plugin_ema.checkpoint import (
    buffer_slots,
    check_shapes,
    live_tensors,
    positional_average,
    promote_twin,
    stored_average,
)
from mscore_plugin_ema.optimizer import EMAOptimizer
from mscore_plugin_ema.swap import Exchange

_SHARDING = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)
_STILL_INITIAL = 0.3
"""Share of the initial weights in an average above which training is said to have been too short for it."""


class EMA(Callback):
    """Keeps an exponential moving average of the trained weights and evaluates with it.

    The average is updated after optimizer steps (never for accumulated or skipped ones). Floating-point
    buffers, such as the running statistics of batch normalisation, are averaged at the same moments with
    the same decay, so that they fit the averaged weights; other buffers (counters, masks) stay as they are.

    Validation, test and prediction use the averaged weights, also stand-alone with a checkpoint, whose own
    average is then used. While they are in place, ``state_dict()`` of the module still gives the trained
    weights, so that no checkpoint can mistake one for the other; inside :meth:`averaged_weights_in_place`
    it gives the averaged ones. A checkpoint keeps them under ``averaged_weights``, by name, and the
    optimizers' states as they are without this callback: it can be switched on and off between runs.

    Resuming: the average goes on from the checkpoint, with the decay and interval given here; the ones in
    the checkpoint, if different, are mentioned in a warning. From an ``-EMA`` checkpoint the averaged
    weights become the trained ones, and a new average starts from them.

    Args:
        decay: share of the old average that is kept at each update.
        validate_original_weights: if True, evaluation uses the trained weights.
        every_n_steps: optimizer steps from one update to the next.
        cpu_offload: keep the average in CPU memory; a thread updates it while the device goes on.

    Raises:
        MisconfigurationException: if decay is not within [0, 1] or every_n_steps not positive.
    """

    def __init__(
        self,
        decay: Annotated[float, Interval(ge=0.0, le=1.0)],
        validate_original_weights: bool = False,
        every_n_steps: Annotated[int, Ge(1)] = 1,
        cpu_offload: bool = False,
    ) -> None:
        if not 0.0 <= decay <= 1.0:
            raise MisconfigurationException(f"EMA: decay must be between 0 and 1, found {decay}")
        if every_n_steps < 1:
            raise MisconfigurationException(f"EMA: every_n_steps must be at least 1, found {every_n_steps}")
        self.decay = decay
        self.validate_original_weights = validate_original_weights
        self.every_n_steps = every_n_steps
        self.cpu_offload = cpu_offload
        self._module: LightningModule | None = None
        self._optimizers: list[EMAOptimizer] = []
        self._loaded: dict[str, Tensor] | None = None
        """An average read from a checkpoint that is not in the optimizers: to evaluate with, or until fit starts."""
        self._counters: dict[str, list[int]] = {}
        """Steps and updates of each optimizer that the checkpoint tells of, until fit starts."""
        self._checkpoint_read = False
        self._exchange: Exchange | None = None
        self._in_place = False
        self._shows_average = False
        self._trained: dict[str, Tensor] = {}
        self._view: torch.utils.hooks.RemovableHandle | None = None

    # The average and its place -----------------------------------------------------------------------------

    @property
    def has_averaged_weights(self) -> bool:
        """True once the average has been updated, or read from a checkpoint."""
        return self._loaded is not None or any(optimizer.updates for optimizer in self._optimizers)

    @contextmanager
    def averaged_weights_in_place(self) -> Iterator[None]:
        """Have the averaged weights in the model and in its ``state_dict()`` inside the context."""
        was_in_place, showed = self._in_place, self._shows_average
        if not was_in_place and self.has_averaged_weights:
            self._put_in_place()
        self._shows_average = True
        try:
            yield
        finally:
            self._shows_average = showed
            if not was_in_place:
                self._put_back()

    @contextmanager
    def save_ema_model(self, trainer: Trainer) -> Iterator[None]:
        """Save the averaged weights: what is saved inside the context has them as its weights."""
        with self.averaged_weights_in_place():
            yield

    @contextmanager
    def save_original_optimizer_state(self, trainer: Trainer) -> Iterator[None]:
        """Have the optimizers' states without averages inside the context.

        This is how the callback's own optimizers give them anyway; it matters for an
        :class:`~mscore_plugin_ema.EMAOptimizer` made elsewhere.
        """
        wrapped = [optimizer for optimizer in trainer.optimizers if isinstance(optimizer, EMAOptimizer)]
        before = [optimizer.save_original_optimizer_state for optimizer in wrapped]
        for optimizer in wrapped:
            optimizer.save_original_optimizer_state = True
        try:
            yield
        finally:
            for optimizer, value in zip(wrapped, before, strict=True):
                optimizer.save_original_optimizer_state = value

    def swap_model_weights(self, trainer: Trainer, saving_ema_model: bool = False) -> None:
        """Put the averaged weights into the model, or the trained ones back if they are there.

        Args:
            trainer: the trainer of the model.
            saving_ema_model: if True, ``state_dict()`` of the model gives the averaged weights as well.
        """
        if self._in_place:
            self._put_back()
        elif self.has_averaged_weights:
            self._put_in_place()
            self._shows_average = saving_ema_model

    def _put_in_place(self) -> None:
        module = self._module
        assert module is not None  # an average belongs to one
        live = live_tensors(module)
        self._in_place = True
        try:
            if self._loaded is not None:
                self._exchange = _exchange_by_name(self._loaded, live, module)
                trained = self._exchange.trained()
            else:
                trained = {}
                for optimizer in self._optimizers:
                    if not optimizer.is_swapped:
                        optimizer.switch_main_parameter_weights()
                    trained |= optimizer.trained()
        except BaseException:
            self._put_back()
            raise
        self._trained = {name: trained[id(tensor)] for name, tensor in live.items() if id(tensor) in trained}
        hook = partial(self._show_trained_weights)  # torch marks a hook by an attribute, which methods do not take
        self._view = module.register_state_dict_post_hook(hook)  # type: ignore[no-untyped-call]

    def _put_back(self) -> None:
        """Give the model its trained weights, if it does not have them."""
        if self._view is not None:
            self._view.remove()
        if self._exchange is not None:
            self._exchange.undo()
        for optimizer in self._optimizers:
            optimizer.restore_main_parameter_weights()
        self._view, self._exchange, self._trained = None, None, {}
        self._in_place = self._shows_average = False

    def _show_trained_weights(self, module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        if not self._shows_average:
            state.update({prefix + name: tensor for name, tensor in self._trained.items() if prefix + name in state})

    # Training ----------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be averaged, and forget the average of another module.

        Raises:
            MisconfigurationException: if the strategy shards the parameters.
        """
        if isinstance(trainer.strategy, _SHARDING):
            raise MisconfigurationException(
                f"EMA cannot average parameters that {type(trainer.strategy).__name__} shards; use ddp"
            )
        if pl_module is not self._module or trainer.state.fn == TrainerFn.FITTING:
            self._optimizers, self._loaded, self._counters = [], None, {}
        self._module = pl_module
        self._checkpoint_read = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap the optimizers, and hand them the average of the checkpoint that training resumes from."""
        device = torch.device("cpu") if self.cpu_offload else pl_module.device
        trainer.optimizers = [
            optimizer
            if isinstance(optimizer, EMAOptimizer)
            else EMAOptimizer(optimizer, device, self.decay, self.every_n_steps)
            for optimizer in trainer.optimizers
        ]
        self._optimizers = [o for o in trainer.optimizers if isinstance(o, EMAOptimizer)]
        live = live_tensors(pl_module)
        known = self._known_averages(live)
        slots = buffer_slots(pl_module)
        persistent = {id(tensor) for tensor in live.values()}
        # Buffers belong to no optimizer; they go with the first one's steps.
        buffers = [slot for identity, slot in slots.items() if identity in persistent]
        for index, optimizer in enumerate(self._optimizers):
            optimizer.save_original_optimizer_state = True
            optimizer.track(buffers if index == 0 else (), known)
            if known is not None:
                optimizer.current_step = _at(self._counters["steps"], index)
                optimizer.updates = _at(self._counters["updates"], index)
        self._loaded = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Apply this callback's settings, over those that an optimizer's state may have brought along."""
        for optimizer in self._optimizers:
            optimizer.decay, optimizer.every_n_steps = self.decay, self.every_n_steps

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start an average that has not started: from here on, forward passes change buffers."""
        for optimizer in self._optimizers:
            optimizer.start()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if the average still consists of the weights that it started from."""
        for optimizer in self._optimizers:
            optimizer.join()
        updates = min((optimizer.updates for optimizer in self._optimizers), default=0)
        initial = self.decay**updates
        if initial > _STILL_INITIAL and not getattr(trainer, "fast_dev_run", False):
            rank_zero_warn(
                f"EMA: after {updates} updates with decay {self.decay}, the average is still {initial:.0%} the "
                "weights that it started from. Use a smaller decay or every_n_steps, or train longer"
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the model its trained weights before anyone saves it."""
        self._put_back()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the model with its trained weights, however the run ended."""
        self._put_back()

    def _known_averages(self, live: Mapping[str, Tensor]) -> dict[int, Tensor] | None:
        """The average read from a checkpoint, by the ``id`` of the live tensor; None for a fresh start."""
        if self._loaded is None:
            return None
        check_shapes(self._loaded, live)
        trained = {id(p) for optimizer in self._optimizers for p in optimizer.all_parameters()}
        missing = [n for n, tensor in live.items() if id(tensor) in trained and n not in self._loaded]
        if missing:
            rank_zero_warn(
                f"EMA: the checkpoint has no average of {', '.join(missing[:5])}"
                f"{' and others' if len(missing) > 5 else ''}: theirs start from the loaded weights"
            )
        return {id(live[name]): tensor for name, tensor in self._loaded.items() if name in live}

    # Checkpoints -------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Settings and counters; the average itself lies beside the model's weights."""
        return {
            "decay": self.decay,
            "every_n_steps": self.every_n_steps,
            "started": self.has_averaged_weights,
            "steps": [optimizer.current_step for optimizer in self._optimizers],
            "updates": [optimizer.updates for optimizer in self._optimizers],
            **(self._counters if self._loaded is not None else {}),
        }

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the average, under the names that the tensors have in the model's ``state_dict``."""
        if not self.has_averaged_weights:
            return
        average = self._loaded
        if average is None:
            by_identity = {id(live): mean for opt in self._optimizers for live, mean in opt.averages()}
            average = {
                name: by_identity[id(tensor)]
                for name, tensor in live_tensors(pl_module).items()
                if id(tensor) in by_identity
            }
        checkpoint[AVERAGED_WEIGHTS_KEY] = average

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the average from a checkpoint: its own, its twin's, or one listed in optimizer states.

        Raises:
            MisconfigurationException: if training is to go on from a checkpoint without averaged weights.
        """
        self._checkpoint_read = True
        path = str(trainer.ckpt_path or "")
        if trainer.state.fn != TrainerFn.FITTING:
            self._read_for_evaluation(trainer, checkpoint, path)
            return
        self._loaded, self._counters = None, {}
        if is_averaged_twin(path, checkpoint):
            promote_twin(checkpoint, path, trainer.strategy.load_checkpoint)
            rank_zero_info(f"EMA: the averaged weights in {path} are the weights now; a new average starts")
            return
        own = checkpoint.get("callbacks", {}).get(self.state_key)
        listed = [state for state in checkpoint.get("optimizer_states", []) if "ema" in state]
        self._warn_of_other_settings([own] if own else listed)
        if AVERAGED_WEIGHTS_KEY not in checkpoint and (listed or (own and not own["started"])):
            return  # the wrapped optimizers read the lists themselves; or the average had not started
        self._loaded = stored_average(checkpoint, path, trainer.strategy.load_checkpoint)
        step = int(checkpoint.get("global_step", 0))
        self._counters = {"steps": [step], "updates": [-(-step // self.every_n_steps)]}
        if own and own["steps"]:
            self._counters = {"steps": own["steps"], "updates": own["updates"]}
        if self._loaded is None:
            raise MisconfigurationException(
                f"EMA: {path} has no averaged weights, and no -EMA checkpoint of the same step lies beside it. "
                "To go on with the average, resume from a checkpoint that was saved with it or put its -EMA file "
                "beside it; to start a new average from these weights, save them as ...-EMA.ckpt and resume from "
                "that; to train without, remove the EMA callback"
            )

    def _warn_of_other_settings(self, saved: list[dict[str, Any]]) -> None:
        changes = [
            f"{name} {state[name]} -> {getattr(self, name)}"
            for state in saved[:1]
            for name in ("decay", "every_n_steps")
            if state.get(name, getattr(self, name)) != getattr(self, name)
        ]
        if changes:
            rank_zero_warn(f"EMA: goes on with other settings than the checkpoint's: {', '.join(changes)}")

    # Evaluation --------------------------------------------------------------------------------------------

    def _read_for_evaluation(self, trainer: Trainer, checkpoint: dict[str, Any], path: str) -> None:
        self._optimizers, self._loaded = [], None  # the model's weights are another step's now
        if is_averaged_twin(path, checkpoint):
            return  # the file's weights are the averaged ones
        module = trainer.lightning_module
        average = stored_average(checkpoint, path, trainer.strategy.load_checkpoint)
        self._loaded = positional_average(checkpoint, module) if average is None else average
        if self._loaded is not None:
            check_shapes(self._loaded, live_tensors(module))
        elif not self.validate_original_weights:
            rank_zero_warn(f"EMA: {path} has no averaged weights; its trained weights are evaluated")

    def _start_evaluation(self, trainer: Trainer) -> None:
        if trainer.state.fn != TrainerFn.FITTING and trainer.ckpt_path and not self._checkpoint_read:
            # Lightning shows callbacks only full checkpoints; this one holds weights only.
            path = str(trainer.ckpt_path)
            with torch.inference_mode(False):  # tensors read in inference mode could not be put in place
                checkpoint = trainer.strategy.load_checkpoint(path)
                self._read_for_evaluation(trainer, checkpoint, path)
            self._checkpoint_read = True
        if not self.validate_original_weights and not self._in_place and self.has_averaged_weights:
            self._put_in_place()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the averaged weights into the model, unless the original ones are to be validated."""
        self._start_evaluation(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the model its trained weights back."""
        self._put_back()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the averaged weights into the model, unless the original ones are to be evaluated."""
        self._start_evaluation(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the model its trained weights back."""
        self._put_back()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the averaged weights into the model, unless the original ones are to be used."""
        self._start_evaluation(trainer)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the model its trained weights back."""
        self._put_back()


def _exchange_by_name(average: Mapping[str, Tensor], live: Mapping[str, Tensor], module: nn.Module) -> Exchange:
    slots = buffer_slots(module)
    parameters = {id(live[n]): (live[n], a) for n, a in average.items() if isinstance(live.get(n), nn.Parameter)}
    buffers = {id(live[n]): (slots[id(live[n])], a) for n, a in average.items() if id(live.get(n)) in slots}
    return Exchange(parameters.values(), buffers.values())


def _at(values: list[int], index: int) -> int:
    """The value of an optimizer; of the last one, if the checkpoint knew fewer."""
    return values[min(index, len(values) - 1)]
