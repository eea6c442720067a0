import os
import signal
from pathlib import Path

import lightning.pytorch as pl


class Saboteur(pl.Callback):
    """Lets a run go wrong once.

    Args:
        step: when.
        how: ``raise``, ``terminate`` (SIGTERM), ``interrupt`` (Ctrl-C) or ``kill``.
        marker: file that is made then; while it exists nothing more goes wrong.
        rank: in which process of several.
    """

    def __init__(self, step: int, how: str = "raise", marker: str = "sabotaged", rank: int = 0):
        self.step, self.how, self.marker, self.rank = step, how, Path(marker), rank

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_rank != self.rank or trainer.global_step != self.step or self.marker.exists():
            return
        self.marker.touch()
        if self.how == "raise":
            raise ZeroDivisionError("sabotage")
        number = {"terminate": signal.SIGTERM, "interrupt": signal.SIGINT, "kill": signal.SIGKILL}[self.how]
        os.kill(os.getpid(), number)
