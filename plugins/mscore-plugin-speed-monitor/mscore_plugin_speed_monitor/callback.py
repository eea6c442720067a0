"""Training speed, measured without slowing the training."""

import sys
from time import perf_counter
from typing import Annotated, Any

import torch
from annotated_types import Ge
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

try:
    import resource
except ImportError:  # Windows has no such module
    resource = None  # type: ignore[assignment]

_GIB = 2**30
_BATCH_AND_TIME = ("mask", "first", "agent_action")


class SpeedMonitorCallback(Callback):
    """Logs training speed, data wait and peak memory at an interval, on rank zero.

    The time of validation and of saving checkpoints does not count. Metrics, logged with the optimizer
    step as their step:

    - ``speed/batches_per_second``: of one process;
    - ``speed/frames_per_second``: of all processes, taken to have equal batches;
    - ``speed/optimizer_steps_per_second``;
    - ``speed/data_wait_share``: share of the time between the end of a batch and the start of the next,
      which is waiting for data but for the other callbacks' work;
    - ``speed/peak_memory_gib``: of this process; ``speed/peak_gpu_memory_gib``: tensors on its CUDA device.

    Frames of a batch are B * T where the batch is a mapping, found from ``mask``, ``first`` or
    ``agent_action``, else from its first tensor; of other batches they are the samples. A batch without
    tensors has none.

    Args:
        interval: batches from one row to the next.
    """

    def __init__(self, *, interval: Annotated[int, Ge(1)] = 20) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1, found {interval}")
        self.interval = interval
        self._active = False
        self._checkpoints: tuple[Any, ...] = ()
        self._saved: list[int | None] = []
        self._started = self._ended = 0.0
        self._gap_counts = False
        self._begin(0)

    def _begin(self, global_step: int) -> None:
        """Start an interval."""
        self._batches = 0
        self._frames = 0
        self._working = 0.0
        self._waiting = 0.0
        self._first_step = global_step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start measuring afresh, if there is anyone to log for."""
        self._active = trainer.is_global_zero and bool(trainer.loggers)
        self._checkpoints = tuple(trainer.checkpoint_callbacks)
        self._saved = self._saves()
        self._gap_counts = False
        self._begin(trainer.global_step)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """End the wait for this batch."""
        if not self._active:
            return
        self._started = perf_counter()
        if self._gap_counts:
            if self._checkpoints and (saved := self._saves()) != self._saved:
                self._saved = saved
            else:
                self._waiting += self._started - self._ended
        self._gap_counts = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, and log when the interval is full."""
        if not self._active:
            return
        self._ended = perf_counter()
        self._working += self._ended - self._started
        self._batches += 1
        self._frames += frames_of(batch)
        if self._batches >= self.interval:
            self._log(trainer, pl_module)
            self._begin(trainer.global_step)
            self._ended = perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the pause around a validation out."""
        self._gap_counts = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Leave the pause around a checkpoint out, whoever saves it."""
        self._gap_counts = False

    def _saves(self) -> list[int | None]:
        # Callbacks are not told of checkpoints that hold weights only; this is where Lightning notes them.
        return [getattr(callback, "_last_global_step_saved", None) for callback in self._checkpoints]

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        seconds = self._working + self._waiting
        if seconds <= 0.0:  # the clock's resolution
            return
        metrics = {
            "speed/batches_per_second": self._batches / seconds,
            "speed/frames_per_second": self._frames * trainer.world_size / seconds,
            "speed/optimizer_steps_per_second": (trainer.global_step - self._first_step) / seconds,
            "speed/data_wait_share": self._waiting / seconds,
        }
        if resource is not None:
            unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
            metrics["speed/peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _GIB
        if pl_module.device.type == "cuda":
            metrics["speed/peak_gpu_memory_gib"] = torch.cuda.max_memory_allocated(pl_module.device) / _GIB
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)


def frames_of(batch: Any) -> int:
    """Frames in a batch, from shapes alone: B * T of a mapping of (B, T, …) tensors, else the samples."""
    if isinstance(batch, dict):
        for name in _BATCH_AND_TIME:
            value = batch.get(name)
            if isinstance(value, Tensor) and value.ndim >= 2:
                return value.shape[0] * value.shape[1]
        tensor = _first_tensor(batch)
        if tensor is not None and tensor.ndim >= 2:
            return tensor.shape[0] * tensor.shape[1]
    else:
        tensor = _first_tensor(batch)
    return 0 if tensor is None or tensor.ndim == 0 else tensor.shape[0]


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return next((found for child in children if (found := _first_tensor(child)) is not None), None)
