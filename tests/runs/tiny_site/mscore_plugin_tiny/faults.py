import os
import signal

import lightning.pytorch as pl


class Saboteur(pl.Callback):
    """Lets a run go wrong.

    Args:
        step: when.
        how: ``raise``, ``terminate`` (SIGTERM) or ``interrupt`` (Ctrl-C, twice).
    """

    def __init__(self, step: int, how: str = "raise"):
        self.step, self.how = step, how

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step != self.step:
            return
        if self.how == "raise":
            raise ZeroDivisionError("sabotage")
        os.kill(os.getpid(), signal.SIGTERM if self.how == "terminate" else signal.SIGINT)
