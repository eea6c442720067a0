"""Fits of a few steps on the CPU, saved in the middle and gone on with."""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar

from mscore import MineLightning
from mscore.testing.tiny import TinyObjective, TinyPolicy
from mscore.testing.trees import named_leaves

STEPS = 8
SAVED_AT = 4


class Saver(pl.Callback):
    """Saves one checkpoint, after :data:`SAVED_AT` steps."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when the moment has come."""
        if trainer.global_step == SAVED_AT:
            trainer.save_checkpoint(self.path)


class Recorder(pl.LightningModule):
    """Trains nothing, and writes down which batches it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[str] = []

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave the batch as it is: every device here is the CPU."""
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Write the batch down."""
        self.seen.append(digest(batch))
        return self.weight * 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD, which does nothing here."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def digest(batch: Any) -> str:
    """A short text that tells two batches apart."""
    content = hashlib.sha256()
    for path, leaf in sorted(named_leaves(batch), key=lambda pair: pair[0]):
        value = torch.as_tensor(leaf).detach().contiguous()
        content.update(f"{path} {tuple(value.shape)} {value.dtype}".encode())
        content.update(value.reshape(-1).view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    content.update(repr(list(_texts(batch))).encode())
    return content.hexdigest()[:16]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _texts(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def tiny_module() -> MineLightning:
    """A module that learns, always with the same weights."""
    torch.manual_seed(5)
    return MineLightning(TinyPolicy(), [TinyObjective()], log_freq=1, learning_rate=0.05, warmup_steps=2)


def fit(
    module: pl.LightningModule,
    datamodule: pl.LightningDataModule,
    folder: Path,
    callbacks: Sequence[pl.Callback] = (),
    *,
    resume_from: Path | None = None,
    logger: Any = False,
    steps: int = STEPS,
    validate: bool = True,
) -> pl.Trainer:
    """Fit for a few steps, as the offline trainer fits.

    Args:
        module: what is trained.
        datamodule: what it is trained on.
        folder: for what Lightning writes.
        callbacks: beside which there are none.
        resume_from: a checkpoint, read with ``weights_only=True``.
        logger: a logger, or False.
        steps: optimizer steps, those before the checkpoint included.
        validate: also validate, between steps.
    """
    with quiet():
        trainer = pl.Trainer(
            max_steps=steps,
            max_epochs=-1,
            accelerator="cpu",
            devices=1,
            callbacks=list(callbacks),
            logger=logger,
            default_root_dir=folder,
            enable_checkpointing=any(isinstance(one, Checkpoint) for one in callbacks),
            enable_progress_bar=any(isinstance(one, ProgressBar) for one in callbacks),
            enable_model_summary=any(isinstance(one, ModelSummary) for one in callbacks),
            val_check_interval=3 if validate else 1.0,
            check_val_every_n_epoch=None if validate else 1,
            limit_val_batches=2 if validate else 0,
            num_sanity_val_steps=1 if validate else 0,
            log_every_n_steps=1,
            use_distributed_sampler=False,
        )
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume_from, weights_only=True)
    return trainer


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's remarks on devices and workers out of the listing."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
