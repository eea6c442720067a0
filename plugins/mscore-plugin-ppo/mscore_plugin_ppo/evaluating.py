"""Evaluation while a run's trainer trains: the core's callback, told what it asks of a Lightning trainer."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from mscore import EvaluationCallback
from mscore_plugin_ppo.monitors import Watching
from mscore_plugin_ppo.trainers.ppo import PPOTrainer


class EvaluationMonitor(Watching):
    """Plays episodes before training, every so many steps in environments, and at the end.

    Args:
        callback: the evaluation of the run, which writes the same files and metrics as offline.
        loggers: the run's.
        resumed: training goes on, so that there is a history to take up.
    """

    def __init__(self, callback: EvaluationCallback, loggers: Sequence[Any], resumed: bool) -> None:
        self._callback: Any = callback
        self._view = _LightningView(loggers, resumed)

    def on_start(self, trainer: PPOTrainer) -> None:
        """Take up the history, and evaluate the policy that training starts from."""
        self._callback.on_train_start(self._at(trainer), self._view)

    def on_iteration(self, trainer: PPOTrainer, metrics: Mapping[str, float]) -> None:
        """Evaluate when the interval has passed."""
        self._callback.on_train_batch_end(self._at(trainer), self._view, None, None, trainer.iteration)

    def on_end(self, trainer: PPOTrainer) -> None:
        """Evaluate the policy that training ends with, unless the run was asked to stop."""
        if not trainer.should_stop:
            self._callback.on_train_end(self._at(trainer), self._view)

    def _at(self, trainer: PPOTrainer) -> "_LightningView":
        self._view.global_step = trainer.env_steps
        self._view.mine_policy = trainer.policy
        return self._view


class _LightningView:
    """What the callback reads of a Lightning trainer and module, for one process."""

    is_global_zero = True

    def __init__(self, loggers: Sequence[Any], resumed: bool) -> None:
        self.global_step = 0
        self.mine_policy: Any = None
        self.loggers = list(loggers)
        self.callbacks: list[Any] = []
        self.callback_metrics: dict[str, Any] = {}
        self.ckpt_path = "resumed" if resumed else None
        self.strategy = self
        self.precision_plugin = self

    def broadcast(self, value: Any) -> Any:
        """There is nobody else to tell."""
        return value

    def forward_context(self) -> Any:
        """The policy computes in its own precision."""
        return nullcontext()
