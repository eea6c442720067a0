"""The data module ``minari``: any Minari dataset, served as windows."""

import warnings
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
from annotated_types import Ge, Gt, Le
from torch.utils.data import DataLoader

from mscore import MscoreError, ResumableDataModule
from mscore_plugin_minari.datasets import Description, check_id, datasets_folder, describe_dataset, is_local
from mscore_plugin_minari.downloading import download
from mscore_plugin_minari.windows import MinariWindows, open_episodes


class MinariDataModule(ResumableDataModule):
    """A dataset in Minari's format, in windows of whole episodes.

    Batches hold the observations under the names of a Dict space, else as ``image``; ``agent_action``;
    ``reward`` (B, T) float32, ``terminated`` and ``truncated`` (B, T) bool, what each action led to; and the
    ``mask``, ``first``, ``timestamp`` and ``episode`` of all windows.

    Args:
        dataset_id: the dataset's id, such as ``D4RL/door/human-v2``.
        root: the folder that holds the datasets. By default the one that the variable
            ``MINARI_DATASETS_PATH`` names, else ``~/.minari/datasets``, as for Minari itself.
        download: get the dataset from Minari's servers if it is not in that folder. Otherwise nothing is
            ever asked of a server.
        seed: which episodes are held out, and the order of training.
        win_len: frames of a window.
        batch_size: rows of a batch on each process.
        num_workers: processes that read; 0 reads in the training process.
        split_ratio: share of the episodes that are trained on; the others are held out for validation.
    """

    def __init__(
        self,
        dataset_id: str,
        root: str | None = None,
        download: bool = False,
        seed: Annotated[int, Ge(0)] = 0,
        win_len: Annotated[int, Ge(1)] = 32,
        batch_size: Annotated[int, Ge(1)] = 32,
        num_workers: Annotated[int, Ge(0)] = 0,
        split_ratio: Annotated[float, Gt(0), Le(1)] = 0.95,
    ) -> None:
        super().__init__()
        self.dataset_id = dataset_id
        self.root: Path = datasets_folder(root)
        self.download = download
        self.seed = seed
        self.win_len = win_len
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.split_ratio = split_ratio
        self.train_set: MinariWindows | None = None
        self.val_set: MinariWindows | None = None
        self._description: Description | None = None

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """What the policy sees; known after ``prepare_data``."""
        return self._describe().observation_space

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """What the policy chooses from; known after ``prepare_data``."""
        return self._describe().action_space

    def prepare_data(self) -> None:
        """Find the dataset, or download it where that is asked for.

        Raises:
            MscoreError: there is no such dataset, it cannot be downloaded, it is empty or damaged, or mscore
                does not support its spaces.
        """
        check_id(self.dataset_id, self.root)
        if self.download and not is_local(self.dataset_id, self.root):
            download(self.dataset_id, self.root)
        self._describe()

    def setup(self, stage: str | None = None) -> None:
        """Split the episodes into those to train on and those held out.

        Episodes without an action are left out, with a warning.

        Raises:
            MscoreError: the dataset's files are damaged, or there is nothing in them.
        """
        description = self._describe()
        source = open_episodes(description)
        lengths = source.lengths(description.episodes)
        episodes = np.flatnonzero(lengths > 0)
        if not len(episodes):
            raise MscoreError(f"none of the episodes of {self.dataset_id!r} in {self.root} has an action")
        if len(episodes) < len(lengths):
            warnings.warn(
                f"{len(lengths) - len(episodes)} of the {len(lengths)} episodes of {self.dataset_id!r} have no action "
                "and are left out",
                stacklevel=2,
            )
        order = np.random.default_rng(self.seed).permutation(episodes)
        trained = max(1, round(len(episodes) * self.split_ratio))
        parts = [np.sort(part).tolist() for part in (order[:trained], order[trained:])]
        self.train_set, self.val_set = (
            MinariWindows(description, source, part, lengths[part].tolist(), self.win_len) if part else None
            for part in parts
        )

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

    def _describe(self) -> Description:
        if self._description is None:
            self._description = describe_dataset(self.dataset_id, self.root)
        return self._description
