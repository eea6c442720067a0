"""What looks on while a run's trainer trains: metrics, evaluation, the last checkpoint, signals, progress."""

import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch.loggers import Logger

from mscore_plugin_ppo.trainers.ppo import PPOTrainer

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Watching:
    """A monitor that does nothing; others override what they need."""

    def on_start(self, trainer: PPOTrainer) -> None:
        """Training begins, or goes on."""

    def on_iteration(self, trainer: PPOTrainer, metrics: Mapping[str, float]) -> None:
        """An iteration is done; its metrics by name."""

    def on_end(self, trainer: PPOTrainer) -> None:
        """Training is over or was asked to stop."""

    def close(self) -> None:
        """Called last, also after an error."""


class MetricsLog(Watching):
    """Hands the metrics to the run's loggers, at the number of steps taken in environments.

    Args:
        loggers: the run's.
        hyperparameters: told to them at the start.
        every: iterations between two rows; a row is the mean of the iterations since the last.
    """

    def __init__(self, loggers: Sequence[Logger], hyperparameters: Mapping[str, Any], every: int) -> None:
        self.loggers = loggers
        self.hyperparameters = hyperparameters
        self.every = every
        self._sums: dict[str, tuple[float, int]] = {}
        self._began = (0.0, 0)

    def on_start(self, trainer: PPOTrainer) -> None:
        """Tell the hyperparameters, and begin to measure speed."""
        for logger in self.loggers:
            logger.log_hyperparams(self.hyperparameters)  # type: ignore[arg-type]
        self._begin(trainer)

    def on_iteration(self, trainer: PPOTrainer, metrics: Mapping[str, float]) -> None:
        """Add up; write a row after the first iteration and at every multiple of the interval."""
        for name, value in metrics.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)
        if trainer.iteration == 1 or trainer.iteration % self.every == 0:
            self._write(trainer)

    def on_end(self, trainer: PPOTrainer) -> None:
        """Write what is left."""
        if self._sums:
            self._write(trainer)
        for logger in self.loggers:
            logger.save()

    def close(self) -> None:
        """Let the loggers write what they hold back."""
        for logger in self.loggers:
            logger.finalize("success")

    def _begin(self, trainer: PPOTrainer) -> None:
        self._sums = {}
        self._began = (time.perf_counter(), trainer.env_steps)

    def _write(self, trainer: PPOTrainer) -> None:
        seconds, steps = time.perf_counter() - self._began[0], trainer.env_steps - self._began[1]
        row = {name: total / count for name, (total, count) in self._sums.items()}
        row["rollout/steps_per_second"] = steps / max(seconds, 1e-9)
        for logger in self.loggers:
            logger.log_metrics(row, step=trainer.env_steps)
        self._begin(trainer)


class LastCheckpoint(Watching):
    """Keeps the checkpoint that a run goes on from up to date: now and then, and when training ends.

    Args:
        path: the file, replaced each time.
        every: iterations between two writes.
    """

    on_every_rank = True

    def __init__(self, path: Path, every: int) -> None:
        self.path = path
        self.every = every

    def on_iteration(self, trainer: PPOTrainer, metrics: Mapping[str, float]) -> None:
        """Save when the interval is over."""
        if trainer.iteration % self.every == 0:
            trainer.save_checkpoint(self.path)

    def on_end(self, trainer: PPOTrainer) -> None:
        """Save what was learned, also when the run was asked to stop."""
        trainer.save_checkpoint(self.path)


class StopRequest(Watching):
    """Lets SIGTERM and the first Ctrl-C end training after the current iteration; a second stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._trainer: PPOTrainer | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def on_start(self, trainer: PPOTrainer) -> None:
        """Take the signals over."""
        self._trainer = trainer
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        assert self._trainer is not None
        self._trainer.should_stop = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._previous[signal.SIGINT])
            print("\nstopping after this iteration; press Ctrl-C again to stop at once", flush=True)


class ProgressLines(Watching):
    """Prints the steps, the speed and the return every few seconds.

    Args:
        seconds: time between two lines.
    """

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds
        self._printed = (0.0, 0)

    def on_start(self, trainer: PPOTrainer) -> None:
        """Begin counting."""
        self._printed = (time.monotonic(), trainer.env_steps)

    def on_iteration(self, trainer: PPOTrainer, metrics: Mapping[str, float]) -> None:
        """Print a line when it is time."""
        now = time.monotonic()
        seconds = now - self._printed[0]
        if seconds < self.seconds:
            return
        names = ("rollout/return", "rollout/success", "train/loss")
        shown = [f"{name} {metrics[name]:.4g}" for name in names if name in metrics]
        end = f"/{trainer.max_env_steps}" if trainer.max_env_steps else ""
        speed = (trainer.env_steps - self._printed[1]) / seconds
        print(f"step {trainer.env_steps}{end}, {speed:.3g} steps/s", *shown, sep=", ", file=sys.stdout, flush=True)
        self._printed = (now, trainer.env_steps)
