"""The data module ``minestudio``: MineStudio's datasets as long trajectories, or as windows that lead to events."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import gymnasium
import numpy as np
from annotated_types import Ge, Gt, Le
from gymnasium import spaces
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import DataLoader

from mscore import MscoreError, ResumableDataModule, minecraft_action_space
from mscore_plugin_minestudio.modalities.events import Event, select_events
from mscore_plugin_minestudio.parameters import check_data_params, flatten
from mscore_plugin_minestudio.storage.event_store import EventStore
from mscore_plugin_minestudio.storage.layout import EVENT_FOLDER, DatasetError
from mscore_plugin_minestudio.storage.store import Catalog, Episode, open_catalog
from mscore_plugin_minestudio.storage.stored_spaces import read_spaces
from mscore_plugin_minestudio.windows.batches import UNREADABLE_KEY, BatchReader, WindowFormat
from mscore_plugin_minestudio.windows.dataset import EventDataset, RawDataset, split_episodes
from mscore_plugin_minestudio.windows.unreadable import UnreadableWindows

MineDataset = RawDataset | EventDataset


class MineDataModule(ResumableDataModule):
    """MineStudio's datasets: frames, actions and what else they hold, in windows.

    In the mode ``raw`` whole episodes are cut into windows, which follow each other from batch to batch with
    ``episode_continuous_batch``. In the mode ``event`` there is a window for each event that ``event_regex``
    matches, which ends with the frame before it, ``bias`` frames later. In both modes the same episodes are held
    out for validation.

    The parameters of the data (:class:`~mscore_plugin_minestudio.parameters.DataParams`) may stand by
    themselves, or in ``data_params`` as in MineStudio.

    Args:
        data_params: parameters of the data by name.
        batch_size: rows of a batch on each process.
        num_workers: processes that read; 0 reads in the training process.
        prefetch_factor: batches that each of them reads ahead; torch's default is 2.
        split_ratio: share of the episodes that are trained on, rounded down; the others are held out.
        shuffle_episodes: shuffle the episodes before they are split; else the last ones by name are held out.
        episode_continuous_batch: rows play whole episodes, window by window; else windows come in any order and
            row, as those of events always do, whatever it says.
        **kwargs: parameters of the data.

    Attributes:
        params: the parameters of the data.
        train_dataset: windows to train on, after ``setup``.
        val_dataset: windows of the episodes held out, after ``setup``; None where none are.

    Raises:
        MscoreError: parameters that are unknown, wrong, or do not go together.
    """

    mscore_kwargs_of: ClassVar[str] = "mscore_plugin_minestudio.parameters:DataParams"

    def __init__(
        self,
        data_params: dict[str, Any] | None = None,
        batch_size: Annotated[int, Ge(1)] = 1,
        num_workers: Annotated[int, Ge(0)] = 0,
        prefetch_factor: Annotated[int, Ge(1)] | None = None,
        split_ratio: Annotated[float, Gt(0), Le(1)] = 0.8,
        shuffle_episodes: bool = False,
        episode_continuous_batch: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        beside = {**kwargs, "split_ratio": split_ratio, "shuffle_episodes": shuffle_episodes}
        self.params = check_data_params(flatten(data_params, beside))
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.episode_continuous_batch = episode_continuous_batch
        self.train_dataset: MineDataset | None = None
        self.val_dataset: MineDataset | None = None
        self._catalog: Catalog | None = None
        self._events: list[Event] | None = None
        self._unreadable = UnreadableWindows()
        if episode_continuous_batch and self.params.mode == "event":
            # MineStudio's fine-tuning of VPT asks for both.
            rank_zero_warn("episode_continuous_batch has no effect: the windows of mode 'event' begin anew, each")
            self.episode_continuous_batch = False
        if episode_continuous_batch and self.params.win_len == 1 and self.params.skip_frame > 1:
            raise MscoreError(
                "win_len 1: a window of one frame does not show that frames are skipped, so none would be gone on "
                "from; use a win_len of at least 2, or a skip_frame of 1"
            )

    @property
    def observation_space(self) -> gymnasium.Space[Any] | None:
        """What the policy sees: ``image``; None if ``enable_video`` is off."""
        if not self.params.enable_video:
            return None
        size = (self.params.frame_height, self.params.frame_width, 3)
        return spaces.Dict({"image": spaces.Box(0, 255, size, np.uint8)})

    @property
    def action_space(self) -> gymnasium.Space[Any] | None:
        """What the policy chooses from; None if ``enable_action`` is off. Known after ``prepare_data``."""
        if not self.params.enable_action:
            return None
        stored = read_spaces(self.params.dataset_dirs)
        return minecraft_action_space() if stored is None else stored.action_space

    def prepare_data(self) -> None:
        """Find the episodes, and say which are left out.

        Raises:
            DatasetError: a folder is missing or no dataset, or something cannot be read and ``on_error`` is
                ``raise``.
        """
        catalog = self._open()
        if catalog.left_out or catalog.problems:
            rank_zero_warn(f"{type(self).__name__}: {catalog.summary()}")

    def setup(self, stage: str | None = None) -> None:
        """Split the episodes into those to train on and those held out, and cut them into windows.

        Raises:
            DatasetError: as of :meth:`prepare_data`.
            MscoreError: there is no episode or no event to train on.
        """
        params, episodes = self.params, self._open().episodes
        trained, held_out = split_episodes(episodes, params.split_ratio, params.shuffle_episodes, params.seed)
        if not trained:
            raise MscoreError(
                f"split_ratio {params.split_ratio} of {len(episodes)} episodes leaves none to train on; "
                "a split_ratio of 1 trains on all of them"
            )
        make = self._event_dataset if params.mode == "event" else self._raw_dataset
        self.train_dataset = make(trained)
        self.val_dataset = make(held_out) if held_out else None
        if not len(self.train_dataset):
            raise MscoreError(
                "all events that can be used are in episodes that are held out; use a greater split_ratio"
            )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Windows of the episodes to train on, in another order every epoch."""
        assert self.train_dataset is not None
        return self.training_loader(self.train_dataset, seed=self.params.seed, **self._loading())

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        """Windows of the episodes held out, in order; nothing where there are none."""
        if self.val_dataset is None or not len(self.val_dataset):
            return []
        return self.validation_loader(self.val_dataset, **self._loading())

    def receive(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take out of a batch what its reader could not read, and count it."""
        self._unreadable.add(batch.pop(UNREADABLE_KEY, ()))
        return batch

    def teardown(self, stage: str) -> None:
        """Say what could not be read."""
        self._unreadable.report()

    def _open(self) -> Catalog:
        if self._catalog is None:
            # MineStudio sorts the folders; of an episode that is in several, both take the last one's.
            folders = sorted(self.params.dataset_dirs)
            self._catalog = open_catalog(folders, self.params.modalities, self.params.on_error)
        return self._catalog

    def _reader(self) -> BatchReader:
        params = self.params
        stored = read_spaces(params.dataset_dirs)
        form = WindowFormat(
            length=params.win_len,
            stride=params.skip_frame,
            width=params.frame_width,
            height=params.frame_height,
            prev_action=params.enable_prev_action,
            event_constrain=params.event_constrain,
            seed=params.seed,
            action_space=None if stored is None else stored.action_space,
        )
        return BatchReader(self._open(), form, skip=params.on_error == "skip")

    def _raw_dataset(self, episodes: Sequence[Episode]) -> MineDataset:
        return RawDataset(self._reader(), episodes, continuous=self.episode_continuous_batch)

    def _event_dataset(self, episodes: Sequence[Episode]) -> MineDataset:
        params = self.params
        if self._events is None:
            stores = [_events_of(Path(folder).expanduser()) for folder in sorted(params.dataset_dirs)]
            frames = {episode.name: episode.frames for episode in self._open().episodes}
            self._events = select_events(
                stores, params.event_regex, frames, min_nearby=params.min_nearby, max_within=params.max_within
            ).events
        return EventDataset(self._reader(), episodes, self._events, bias=params.bias)

    def _loading(self) -> dict[str, Any]:
        """What both loaders are made with."""
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        ahead = (
            {} if self.prefetch_factor is None or not self.num_workers else {"prefetch_factor": self.prefetch_factor}
        )
        return {
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "continuous": self.episode_continuous_batch,
            "pin_memory": on_gpu,
            **ahead,
        }


def _events_of(dataset: Path) -> EventStore:
    folder = dataset / EVENT_FOLDER
    if not folder.is_dir():
        raise DatasetError("there is no such folder, and mode 'event' needs the dataset's events", file=folder)
    return EventStore(folder)
