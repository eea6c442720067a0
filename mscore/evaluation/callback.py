"""Evaluation while training: rollouts before, during and after, logged and written down."""

import json
import os
import time
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_info

from mscore.config import Evaluation
from mscore.contracts.averaging import find_averaged_weights
from mscore.contracts.environment import Environment
from mscore.errors import MscoreError
from mscore.evaluation.rollouts import rollout
from mscore.evaluation.statistics import Summary, summarize

HISTORY_FILE = "evaluations.jsonl"
"""Name of the file in a run's directory with one line per evaluation."""


@dataclass(frozen=True)
class EvaluationRow:
    """One evaluation of a run: a line of ``evaluations.jsonl``."""

    step: int
    """Optimizer steps done."""
    time: str
    """When it ended: UTC, ISO 8601."""
    seconds: float
    """How long it took."""
    weights: str
    """``"averaged"`` if a callback's averaged weights were in place, else ``"trained"``."""
    summary: Summary

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON: the summary's fields follow the row's own."""
        own = {"step": self.step, "time": self.time, "seconds": self.seconds, "weights": self.weights}
        return {**own, **self.summary.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "EvaluationRow":
        """Read what :meth:`to_dict` wrote."""
        summary = Summary.from_dict(data)
        return cls(data["step"], data["time"], data["seconds"], data["weights"], summary)


class EvaluationCallback(pl.Callback):
    """Plays episodes with the policy before training, every so many steps, and at the end.

    The means are logged as ``eval/success``, ``eval/return`` and ``eval/length`` at the optimizer step,
    and are callback metrics, which ``ModelCheckpoint(monitor="eval/success")`` and the like may watch.
    Each evaluation is a line of ``evaluations.jsonl``. If a callback keeps averaged weights, these are
    evaluated. Training is not affected: random states, modes and weights are what they were.

    A resumed training goes on with the file: evaluations done are not repeated, and lines of steps after
    the checkpoint are dropped, as those steps are trained again. A fresh training starts the file over.

    Rank zero plays; the other ranks wait and receive the result, so that all decide alike.

    Args:
        environment: the environment to play in.
        settings: how much and how often.
        directory: of the run; ``evaluations.jsonl`` is written there.

    Attributes:
        history: the evaluations so far, oldest first.
    """

    def __init__(self, environment: Environment, settings: Evaluation, directory: Path | str) -> None:
        self.environment = environment
        self.settings = settings
        self.file = Path(directory) / HISTORY_FILE
        self.history: list[EvaluationRow] = []
        self._last_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the history, and evaluate the policy that training starts from."""
        step = trainer.global_step
        resumed = step > 0 or trainer.ckpt_path is not None
        if trainer.is_global_zero:
            past = read_history(self.file) if resumed else []
            self.history = [row for row in past if row.step <= step]
            if self.file.exists():
                self._rewrite()
        self.history = trainer.strategy.broadcast(self.history)
        self._last_step = self.history[-1].step if self.history else step
        if self.history:
            self._publish(trainer, self.history[-1])
        # After a kill during an evaluation the checkpoint may be of the very step that it belongs to.
        if self._due(step) or (self.settings.at_start and not resumed):
            self._evaluate(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Evaluate when the interval has passed."""
        if self._due(trainer.global_step):
            self._evaluate(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate the policy that training ends with."""
        if not self.history or self.history[-1].step != trainer.global_step:
            self._evaluate(trainer, pl_module)

    def _due(self, step: int) -> bool:
        """Whether a multiple of the interval was reached: several optimizers may step over the multiple."""
        every = self.settings.every_n_steps
        return every is not None and step // every > self._last_step // every

    def _evaluate(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        keeper = find_averaged_weights(trainer.callbacks)  # type: ignore[attr-defined]
        averaged = keeper is not None and keeper.has_averaged_weights
        in_place = keeper.averaged_weights_in_place() if keeper is not None and averaged else nullcontext()
        row: EvaluationRow | None = None
        failure: Exception | None = None
        with in_place:
            if trainer.is_global_zero:
                try:
                    row = self._play(trainer, pl_module, "averaged" if averaged else "trained")
                except Exception as error:
                    failure = error
            # The other ranks wait here; they must hear of a failure, or they would wait for ever.
            row, message = trainer.strategy.broadcast((row, None if failure is None else str(failure)))
        if failure is not None:
            raise failure
        if row is None:
            raise MscoreError(f"the evaluation failed on rank zero: {message}")
        self._last_step = row.step
        self.history.append(row)
        self._publish(trainer, row)
        if trainer.is_global_zero:
            self._write_down(trainer, row)

    def _play(self, trainer: pl.Trainer, pl_module: pl.LightningModule, weights: str) -> EvaluationRow:
        settings = self.settings
        began = time.perf_counter()
        with trainer.precision_plugin.forward_context():
            results = rollout(
                pl_module.mine_policy,  # type: ignore[arg-type]
                self.environment,
                episodes=settings.episodes,
                seed=settings.seed,
                num_envs=settings.num_envs,
                deterministic=settings.deterministic,
            )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        seconds = round(time.perf_counter() - began, 3)
        return EvaluationRow(trainer.global_step, now, seconds, weights, summarize(results))

    def _publish(self, trainer: pl.Trainer, row: EvaluationRow) -> None:
        """Make the means visible to callbacks that watch a metric.

        Written into the dictionary itself: ``LightningModule.log`` would cost every later step some
        time, cannot be called on start for a single value, and forgets it when a run resumes.
        """
        metrics = row.summary.metrics()
        trainer.callback_metrics.update({key: torch.tensor(value) for key, value in metrics.items()})

    def _write_down(self, trainer: pl.Trainer, row: EvaluationRow) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row.to_dict()) + "\n")
        for logger in trainer.loggers:
            logger.log_metrics(row.summary.metrics(), step=row.step)
            logger.save()
        rank_zero_info(f"evaluation at step {row.step} ({row.weights} weights): {row.summary}")

    def _rewrite(self) -> None:
        partial = self.file.with_name(f".{self.file.name}.partial")
        partial.write_text("".join(json.dumps(row.to_dict()) + "\n" for row in self.history), encoding="utf-8")
        os.replace(partial, self.file)


def read_history(file: Path) -> list[EvaluationRow]:
    """The evaluations written to ``evaluations.jsonl``, oldest first; none if there is no file.

    A last line that a kill cut off is left out.

    Raises:
        MscoreError: for any other line that is not an evaluation.
    """
    if not file.exists():
        return []
    return list(_parse(file, file.read_text(encoding="utf-8").split("\n")))


def _parse(file: Path, lines: list[str]) -> Iterable[EvaluationRow]:
    # Every complete line ends with a line break: what comes after the last one is empty or cut off.
    for number, line in enumerate(lines[:-1], start=1):
        try:
            yield EvaluationRow.from_dict(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise MscoreError(f"{file}, line {number}: not an evaluation ({error!r}); remove the line") from error
