"""A counter of optimizer steps."""

from typing import Annotated, Any

import lightning.pytorch as pl
from annotated_types import Ge


class StepCounter(pl.Callback):
    """Counts optimizer steps, over all resumes of a run, and prints the count on rank zero.

    Args:
        every_n_steps: steps between two lines.
    """

    def __init__(self, every_n_steps: Annotated[int, Ge(1)] = 100) -> None:
        self.every_n_steps = every_n_steps
        self.steps = 0
        self._last = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin where the trainer is, which after a resume is not at 0."""
        self._last = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch if it ended with an optimizer step; with accumulated gradients not all do."""
        if trainer.global_step == self._last:
            return
        self._last = trainer.global_step
        self.steps += 1
        if self.steps % self.every_n_steps == 0 and trainer.is_global_zero:
            print(f"{self.steps} optimizer steps")

    def state_dict(self) -> dict[str, Any]:
        """The count, for checkpoints."""
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from a checkpoint's count."""
        self.steps = state_dict["steps"]
