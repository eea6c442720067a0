"""The built-in trainer: a run's adapter to Lightning."""

from functools import partial
from typing import Annotated, Any, ClassVar

import lightning.pytorch as pl
import torch
from annotated_types import Ge
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.exceptions import SIGTERMException

from mscore.config import build
from mscore.contracts.trainer import Run, Trainer
from mscore.errors import Interrupted, MscoreError
from mscore.evaluation.callback import EvaluationCallback
from mscore.offline.checkpoint_io import AtomicCheckpointIO
from mscore.offline.last_checkpoint import LastCheckpoint
from mscore.offline.module import MineLightning
from mscore.offline.progress import progress_callback
from mscore.offline.stopping import StopAfterStep


class OfflineTrainer(Trainer):
    """Trains on a data module's batches with ``lightning.pytorch.Trainer``.

    Args:
        checkpoint_every_n_steps: optimizer steps between two writes of ``checkpoints/last.ckpt``, from
            which a run resumes; it is also written at the end and when the run is asked to stop.
        **kwargs: arguments of ``lightning.pytorch.Trainer``, such as ``max_steps``, ``precision``,
            ``devices``, ``strategy`` and ``gradient_clip_val``.
    """

    run_length: ClassVar[frozenset[str]] = frozenset({"max_steps", "max_epochs", "max_time", "min_steps", "min_epochs"})
    placement: ClassVar[frozenset[str]] = frozenset({"accelerator", "devices", "num_nodes", "strategy"})
    rehearsal: ClassVar[dict[str, Any]] = {"fast_dev_run": 2, "enable_progress_bar": False}
    mscore_kwargs_of: ClassVar[str] = "lightning.pytorch:Trainer"
    mscore_hidden_parameters: ClassVar[frozenset[str]] = frozenset(
        {"barebones", "callbacks", "default_root_dir", "enable_checkpointing", "logger", "plugins"}
    )

    def __init__(self, *, checkpoint_every_n_steps: Annotated[int, Ge(1)] = 500, **kwargs: Any) -> None:
        self.checkpoint_every_n_steps = checkpoint_every_n_steps
        self.arguments: dict[str, Any] = {"enable_model_summary": False, **kwargs}

    def fit(self, run: Run) -> None:
        """Train the run to its end.

        Raises:
            Interrupted: the process was asked to stop (SIGTERM or Ctrl-C); ``last.ckpt`` is up to date.
            MscoreError: the data module gave no batch.
        """
        if run.datamodule is None:
            raise MscoreError("the offline trainer needs a `data:` section")
        module = self.module(run)
        trainer = self.lightning_trainer(run)
        try:
            trainer.fit(module, datamodule=run.datamodule, ckpt_path=run.resume_from, weights_only=True)
        except SIGTERMException as error:
            raise Interrupted(f"the run was asked to stop at step {trainer.global_step}") from error
        finally:
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                # Left to the interpreter's end, its threads sometimes abort a process that has succeeded.
                torch.distributed.destroy_process_group()
        if trainer.num_training_batches == 0:
            raise MscoreError(
                f"data: {type(run.datamodule).__name__} gave no training batch; is the dataset empty, or the "
                "batch larger than what is left after the split?"
            )

    def module(self, run: Run) -> MineLightning:
        """The Lightning module of a run, with the optimizer and scheduler of its config."""
        config = run.config
        return MineLightning(
            run.policy,
            run.objectives,
            run.hyperparameters,
            log_freq=config.log_freq,
            optimizer=lambda params: build(config.optimizer, injected={"params": params}),
            scheduler=lambda optimizer: build(config.scheduler, injected={"optimizer": optimizer}),
        )

    def lightning_trainer(self, run: Run) -> pl.Trainer:
        """The Lightning trainer of a run, with the run's callbacks and those that every run has."""
        callbacks = list(run.callbacks.values())
        if run.environment is not None and run.config.evaluation is not None:
            callbacks.append(EvaluationCallback(run.environment, run.config.evaluation, run.directory))
        callbacks.append(LastCheckpoint(run.checkpoints / "last.ckpt", self.checkpoint_every_n_steps))
        callbacks.append(StopAfterStep())
        arguments = dict(self.arguments)
        if arguments.pop("enable_progress_bar", True) and not _has_progress_bar(callbacks):
            callbacks.append(progress_callback())
        arguments["enable_progress_bar"] = _has_progress_bar(callbacks)
        arguments.setdefault("log_every_n_steps", run.config.log_freq)
        make = partial(
            pl.Trainer,
            callbacks=callbacks,
            logger=run.loggers or False,
            default_root_dir=run.directory,
            enable_checkpointing=True,
            plugins=[AtomicCheckpointIO()],
        )
        trainer = make(**arguments)
        if trainer.world_size > 1 and "use_distributed_sampler" not in arguments:
            assert run.datamodule is not None
            if _has_own_batch_sampler(run.datamodule):
                trainer = make(**arguments, use_distributed_sampler=False)
        return trainer


def _has_progress_bar(callbacks: list[pl.Callback]) -> bool:
    return any(isinstance(callback, pl.callbacks.ProgressBar) for callback in callbacks)


def _has_own_batch_sampler(datamodule: pl.LightningDataModule) -> bool:
    """True if the training loader's batch sampler is not torch's: Lightning must not replace it."""
    datamodule.setup("fit")
    loaders = CombinedLoader(datamodule.train_dataloader()).flattened
    return any(
        isinstance(loader, torch.utils.data.DataLoader)
        and loader.batch_sampler is not None
        and type(loader.batch_sampler) is not torch.utils.data.BatchSampler
        for loader in loaders
    )
