"""What a logger must do: take a run's config and rows of metrics, in a folder that it is given."""

from typing import Any

from lightning.pytorch.loggers import Logger

from mscore.testing.checks import check, require
from mscore.testing.subjects import ComponentSubject
from mscore.testing.tiny import TinyDataModule
from mscore.testing.tiny_fits import STEPS, fit, tiny_module

LOGGER = "logger"


@check(LOGGER, "rows", remedy="implement `log_metrics(metrics, step)`, `log_hyperparams(params)`, `name` and `version`")
def rows(subject: ComponentSubject) -> None:
    """It takes hyperparameters, rows of numbers that come late or twice, and an end."""
    logger: Any = subject.build()
    require(isinstance(logger, Logger), f"it is a {type(logger).__name__}, expected a Lightning Logger")
    _ = logger.name, logger.version
    logger.log_hyperparams({"seed": 1, "policy": {"use": "tiny", "sizes": [1, 2], "text": None}})
    logger.log_metrics({"train/loss": 1.5}, step=1)
    logger.log_metrics({"val/loss": 1.25, "train/loss": float("nan")}, step=1)
    logger.log_metrics({"train/loss": 1.0}, step=2)
    logger.save()
    logger.finalize("success")


@check(LOGGER, "fits", remedy="raise nothing while a run goes on: training does not depend on who looks")
def fits(subject: ComponentSubject) -> None:
    """A fit that logs to it runs to its end."""
    trainer = fit(tiny_module(), TinyDataModule(), subject.folder, logger=subject.build())
    require(trainer.global_step == STEPS, f"the fit ended at step {trainer.global_step}")
