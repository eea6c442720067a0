"""Trainers: adapters that train a run, and the run that they are given."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import lightning.pytorch as pl

if TYPE_CHECKING:
    from mscore.config import RunConfig
    from mscore.contracts.environment import Environment
    from mscore.contracts.objective import ObjectiveCallback
    from mscore.contracts.policy import MinePolicy


@dataclass
class Run:
    """One training: its config, its directory and the components built from the config."""

    config: "RunConfig"
    directory: Path
    """Holds everything that the run writes; relative output paths lie in it."""
    policy: "MinePolicy"
    datamodule: pl.LightningDataModule | None = None
    objectives: dict[str, "ObjectiveCallback"] = field(default_factory=dict)
    """Label to objective, in the config's order."""
    callbacks: dict[str, pl.Callback] = field(default_factory=dict)
    """Label to callback, in the config's order."""
    loggers: list[Any] = field(default_factory=list)
    environment: "Environment | None" = None
    observation_space: gymnasium.Space[Any] | None = None
    action_space: gymnasium.Space[Any] | None = None
    resume_from: Path | None = None
    """Checkpoint to go on from, or None for a fresh start."""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    """The resolved config and the plugins' provenance, as loggers and checkpoints receive them."""

    @property
    def checkpoints(self) -> Path:
        """Folder of the run's checkpoints."""
        return self.directory / "checkpoints"


class Trainer(ABC):
    """Trains a run. Constructor parameters are what the config's ``trainer`` section may say.

    Attributes:
        sections: top-level sections of a config that it honours, beside those that every run has
            (``name``, ``seed``, ``policy``, ``trainer``, ``init_from``, ``log_freq``, ``loggers``,
            ``environment``, ``evaluation``); a config that names another is wrong.
        honours_callbacks: False if Lightning callbacks have no meaning for it; else they are passed on.
        run_length: its parameters that end a run, which a resumed run may change.
        placement: its parameters that say where a run computes, which a resumed run may change.
        rehearsal: its parameters for ``mscore run --dry-run``, laid over the config's: a batch or two of
            training and of validation. None if it cannot rehearse; then everything is built, no more.
    """

    sections: ClassVar[frozenset[str]] = frozenset({"data", "objectives", "callbacks", "optimizer", "scheduler"})
    honours_callbacks: ClassVar[bool] = True
    run_length: ClassVar[frozenset[str]] = frozenset()
    placement: ClassVar[frozenset[str]] = frozenset()
    rehearsal: ClassVar[Mapping[str, Any] | None] = None

    @abstractmethod
    def fit(self, run: Run) -> None:
        """Train the run to its end, from ``run.resume_from`` where that is set.

        It leaves its last checkpoint in ``run.checkpoints / "last.ckpt"``: a dict of tensors and plain data with
        ``state_dict`` (the policy's names after ``mine_policy.``), ``optimizer_states``, ``global_step`` and
        ``hyper_parameters`` (those of the run).
        """
