"""Ending a fit when its processes are asked to, after the same step on all of them."""

import signal
import threading
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopAfterStep(Checkpoint):
    """Lets SIGTERM and the first Ctrl-C end a fit after the current optimizer step; a second stops at once.

    Lightning answers SIGTERM by collective calls that a process makes whenever the signal reaches it, so
    that several processes can wait for each other forever. Here the process that is asked first names the
    step after which all stop, in the process group's key-value store. It names the step after its own:
    no process can have finished that one, as its gradients are not in yet. Looking costs no collective call
    and does not wait for the device.

    It is a ``Checkpoint`` so that Lightning runs it after every other callback of a step.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked = False
        self._previous: dict[signal.Signals, Any] = {}
        self._fits = 0
        self._seen_step = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over from Lightning."""
        self._asked = False
        self._fits += 1
        self._seen_step = trainer.global_step
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._ask) for number in SIGNALS}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the fit if it is time."""
        step, seen = trainer.global_step, self._seen_step
        self._seen_step = step
        if trainer.world_size > 1:
            # Between two accumulated batches the processes need not be at the same one.
            if step != seen and self._all_end_at(step):
                _end(pl_module)
        elif self._asked:
            _end(pl_module)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """End a fit during validation too, where no other process has to agree."""
        if self._asked and trainer.world_size == 1 and not trainer.sanity_checking:
            _end(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        self._give_back()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._give_back()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._previous[signal.SIGINT])
            print("\nstopping after this step; press Ctrl-C again to stop at once", flush=True)

    def _all_end_at(self, step: int) -> bool:
        """Whether this is the step after which all processes stop."""
        store = torch.distributed.distributed_c10d._get_default_store()
        key = f"mscore/stop-{self._fits}"
        if self._asked:
            store.compare_set(key, "", str(step + 1))
        return bool(store.check([key])) and step >= int(store.get(key))

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


def _end(pl_module: pl.LightningModule) -> None:
    pl_module.on_train_end()  # logs the steps since the last row, which no later hook would
    raise SIGTERMException
