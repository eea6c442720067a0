"""The checkpoint that every run leaves, also when its config names no checkpoint callback."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException


class LastCheckpoint(Checkpoint):
    """Keeps one full checkpoint up to date: every n steps, at the end, and when a run is asked to stop.

    Args:
        path: the file, replaced each time.
        every_n_steps: optimizer steps between two writes.
    """

    def __init__(self, path: Path, every_n_steps: int) -> None:
        super().__init__()
        self.path = path
        self.every_n_steps = every_n_steps
        self._next = every_n_steps

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from where the fit starts or goes on."""
        self._next = (trainer.global_step // self.every_n_steps + 1) * self.every_n_steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when the interval is over."""
        if trainer.global_step >= self._next:
            self._next = (trainer.global_step // self.every_n_steps + 1) * self.every_n_steps
            trainer.save_checkpoint(self.path)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what was learned."""
        trainer.save_checkpoint(self.path)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save when the run was asked to stop; after any other failure the last good file stays."""
        if isinstance(exception, SIGTERMException):
            trainer.save_checkpoint(self.path)
