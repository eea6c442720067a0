"""The data module ``minigrid``: demonstrations by the expert bot, recorded once, served as windows."""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
from annotated_types import Ge, Gt, Le
from torch.utils.data import DataLoader

from mscore import EnvironmentId, ResumableDataModule
from mscore_plugin_minigrid.demonstrations import Demonstrations, identity, record
from mscore_plugin_minigrid.environment import MiniGridEnvironment


class MiniGridDataModule(ResumableDataModule):
    """Demonstrations of a BabyAI level by its expert bot, in windows of whole episodes.

    The demonstrations are recorded the first time that they are needed, in parallel processes, and kept in
    a folder on disk; only those that succeed are kept. They are played on seeds below 1,000,000:
    evaluations use seeds from 1,000,000 on, so that no evaluated level was ever demonstrated.

    Args:
        env: registered name of a BabyAI level, such as ``BabyAI-UnlockPickup-v0``.
        episodes: demonstrations, training and validation together.
        root: the dataset's folder. By default one that its content names, in the folder that the variable
            ``MSCORE_CACHE`` names, else in ``~/.cache/mscore``.
        seed: which levels are demonstrated, which episodes are held out, and the order of training.
        win_len: frames of a window.
        batch_size: rows of a batch on each process.
        num_workers: processes that read; 0 reads in the training process, which is fastest here.
        split_ratio: share of the episodes that are trained on; the others are held out for validation.
        processes: recording processes; None means one per core.
        kwargs: further arguments for ``gymnasium.make``.
    """

    def __init__(
        self,
        env: EnvironmentId = "BabyAI-UnlockPickup-v0",
        episodes: Annotated[int, Ge(2), Le(500_000)] = 500,
        root: str | None = None,
        seed: Annotated[int, Ge(0)] = 0,
        win_len: Annotated[int, Ge(1)] = 32,
        batch_size: Annotated[int, Ge(1)] = 32,
        num_workers: Annotated[int, Ge(0)] = 0,
        split_ratio: Annotated[float, Gt(0), Le(1)] = 0.95,
        processes: Annotated[int, Ge(1)] | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.environment = MiniGridEnvironment(env, kwargs)
        self.episodes = episodes
        self.seed = seed
        self.win_len = win_len
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.split_ratio = split_ratio
        self.processes = processes
        self.root = _default_root(self.environment, episodes, seed) if root is None else Path(root).expanduser()
        self.train_set: Demonstrations | None = None
        self.val_set: Demonstrations | None = None

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """What the policy sees; known after ``prepare_data``."""
        return self._everything().observation_space

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """What the policy chooses from; known after ``prepare_data``."""
        return self._everything().action_space

    def prepare_data(self) -> None:
        """Record the demonstrations, unless they are there already.

        Raises:
            MscoreError: the bot cannot play the environment, or ``root`` holds something else.
        """
        record(self.environment, self.episodes, self.seed, self.root, self.processes or _cores())

    def setup(self, stage: str | None = None) -> None:
        """Split the episodes into those to train on and those held out."""
        order = np.random.default_rng(self.seed).permutation(self.episodes)
        trained = max(1, round(self.episodes * self.split_ratio))
        self.train_set = Demonstrations(self.root, self.win_len, np.sort(order[:trained]).tolist())
        held_out = np.sort(order[trained:]).tolist()
        self.val_set = Demonstrations(self.root, self.win_len, held_out) if held_out else None

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Windows of the training episodes, shuffled by episode."""
        assert self.train_set is not None
        return self.training_loader(
            self.train_set, batch_size=self.batch_size, seed=self.seed, num_workers=self.num_workers
        )

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        """Windows of the held-out episodes, in order; nothing where none is held out."""
        if self.val_set is None:
            return []
        return self.validation_loader(self.val_set, batch_size=self.batch_size, num_workers=self.num_workers)

    def _everything(self) -> Demonstrations:
        return self.train_set or Demonstrations(self.root, self.win_len)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_root(environment: MiniGridEnvironment, episodes: int, seed: int) -> Path:
    cache = Path(os.environ.get("MSCORE_CACHE") or "~/.cache/mscore").expanduser()
    content = json.dumps(identity(environment, episodes, seed), sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest()[:8]
    name = environment.env.replace("/", "-").replace(":", "-")
    return cache / "minigrid" / f"{name}-{episodes}-seed{seed}-{digest}"
