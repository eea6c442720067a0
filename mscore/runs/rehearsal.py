"""A rehearsal of a run: everything is built and a batch or two go through it; nothing is kept."""

import dataclasses
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from mscore.components import find
from mscore.config import RunConfig, build
from mscore.contracts.trainer import Run, Trainer
from mscore.runs import directory as layout
from mscore.runs.assembly import PREVIOUS, assemble
from mscore.runs.ranks import is_rank_zero


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found out."""

    parameters: int
    trainable: int
    observation_space: str
    action_space: str
    step_seconds: float | None
    """Time of the fastest training step; None if the trainer cannot rehearse."""
    checkpoint_bytes: int | None
    """Size of the checkpoint that the run would keep; None likewise."""


def rehearse(config: RunConfig) -> Iterator[tuple[str, Rehearsal]]:
    """Build a checked config, and each of its stages, train a batch or two, and throw everything away.

    What the data module prepares (a download, a recording) stays, as that is not the run's.

    Yields:
        The name of the run or stage, and what was found out.
    """
    previous: Path | None = None
    with tempfile.TemporaryDirectory(prefix="mscore-dry-run-") as folder:
        for number, one in enumerate([stage.config for stage in config.stages] or [config]):
            init_from = one.init_from
            if init_from == PREVIOUS:
                init_from = None if previous is None else str(previous)
            rehearsed = dataclasses.replace(one, init_from=init_from, evaluation=None, loggers=())
            directory = _shared(Path(folder) / str(number))
            yield one.name, _rehearse(rehearsed, directory)
            previous = layout.last_checkpoint(directory)


def _shared(folder: Path) -> Path:
    """The folder that all processes of the rehearsal use: rank zero's."""
    if is_rank_zero():
        os.environ[layout.DIRECTORY_VARIABLE] = str(folder)
    return Path(os.environ.get(layout.DIRECTORY_VARIABLE, folder))


def _rehearse(config: RunConfig, directory: Path) -> Rehearsal:
    run = assemble(config, directory)
    clock = _Clock()
    size = None
    rehearsal = find("trainer", config.trainer.use).load().rehearsal
    if rehearsal is not None:
        run.callbacks["mscore-clock"] = clock
        selection = dataclasses.replace(config.trainer, parameters={**config.trainer.parameters, **rehearsal})
        trainer: Trainer = build(selection, injected={"run": run})
        trainer.fit(run)
        last = layout.last_checkpoint(directory)
        size = None if last is None else last.stat().st_size
    return Rehearsal(
        parameters=_count(run, trainable=False),
        trainable=_count(run, trainable=True),
        observation_space=str(run.observation_space),
        action_space=str(run.action_space),
        step_seconds=min(clock.seconds, default=None),
        checkpoint_bytes=size,
    )


def _count(run: Run, trainable: bool) -> int:
    return sum(one.numel() for one in run.policy.parameters() if one.requires_grad or not trainable)


class _Clock(pl.Callback):
    """Measures the training steps of a rehearsal."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seconds.append(time.perf_counter() - self._began)
