"""Progress on a terminal that cannot show bars: one line now and then."""

import sys
import time
from typing import Any, TextIO

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar


class ProgressLines(Callback):
    """Prints the step, the speed and the loss every few seconds.

    Args:
        seconds: time between two lines.
        file: where to print; standard output by default.
    """

    monitor = "train/loss"

    def __init__(self, seconds: float = 10.0, file: TextIO | None = None) -> None:
        self.seconds = seconds
        self.file = file
        self._printed_at = 0.0
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin counting."""
        self._printed_at, self._step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print a line when it is time."""
        now = time.monotonic()
        if now - self._printed_at < self.seconds or not trainer.is_global_zero:
            return
        step = trainer.global_step
        end = f"/{trainer.max_steps}" if trainer.max_steps > 0 else f" (epoch {trainer.current_epoch})"
        speed = (step - self._step) / (now - self._printed_at)
        metrics = trainer.callback_metrics
        shown = [f"{name} {float(metrics[name]):.4g}" for name in ("train/loss", "val/loss") if name in metrics]
        print(f"step {step}{end}, {speed:.3g} steps/s", *shown, sep=", ", file=self.file or sys.stdout, flush=True)
        self._printed_at, self._step = now, step


def progress_callback() -> Callback:
    """A bar on a terminal, lines elsewhere."""
    return RichProgressBar() if sys.stdout.isatty() else ProgressLines()
