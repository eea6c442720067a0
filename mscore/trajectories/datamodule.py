"""A base for data modules that resume at the exact batch."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, DistributedSampler

from mscore.errors import MscoreError
from mscore.trajectories.loading import WorkerDataset, received
from mscore.trajectories.sampler import EpisodeBatchSampler
from mscore.trajectories.schedule import BatchSchedule
from mscore.trajectories.window_sampler import WindowBatchSampler
from mscore.trajectories.windows import BatchDataset


class ResumableDataModule(pl.LightningDataModule):
    """Serves windows of whole episodes, and goes on at the exact next batch after a resume.

    Lightning restores its counters but not its loaders' positions: a plain loader would start the epoch
    again. Here the place in the order is computed, each time that the loader is iterated, from the number
    of batches that the trainer has finished; it is kept in checkpoints, and needs neither a stateful loader
    nor the workers' state. A checkpoint of any moment will do: mid-epoch, between gradient accumulations,
    around a validation, at the edge of an epoch.

    A subclass builds its datasets (:class:`~mscore.trajectories.WindowDataset`) in ``setup`` and returns
    :meth:`training_loader` and :meth:`validation_loader` of them. An :class:`mscore.MscoreError` that a
    dataset raises in a worker process is raised in the training process as it was. Random augmentation
    stays exact if it is seeded by what it augments, not by the worker's generator. The loaders split the
    windows over the processes themselves, whatever the Trainer's ``use_distributed_sampler`` says.
    """

    def __init__(self) -> None:
        super().__init__()
        self._restored: dict[str, Any] | None = None
        self._sampler: BatchSchedule | None = None

    def training_loader(
        self,
        dataset: BatchDataset,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        continuous: bool = True,
        num_workers: int = 0,
        **options: Any,
    ) -> DataLoader[dict[str, Any]]:
        """A loader of this rank's training batches, which starts where training stands.

        Args:
            dataset: the training episodes.
            batch_size: rows of a batch on each rank.
            seed: of the order.
            shuffle: another order every epoch.
            continuous: rows play whole episodes, window by window (:class:`mscore.EpisodeBatchSampler`);
                else windows come in any row (:class:`mscore.WindowBatchSampler`).
            num_workers: processes that read; 0 reads in the training process.
            options: further arguments of ``torch.utils.data.DataLoader``.
        """
        sampler = self._make_sampler(dataset, batch_size, shuffle, seed, continuous)
        self._sampler = sampler
        if self._restored is not None and self._restored["order"] != sampler.fingerprint():
            self._restored = _carried_over(self._restored, sampler)
        return _PositionedLoader(lambda: self.position, self.receive, dataset, sampler, seed, num_workers, options)

    def validation_loader(
        self,
        dataset: BatchDataset,
        *,
        batch_size: int,
        continuous: bool = True,
        num_workers: int = 0,
        **options: Any,
    ) -> DataLoader[dict[str, Any]]:
        """A loader of this rank's validation batches: the episodes in their order, all of them every time.

        Args:
            dataset: the held-out episodes.
            batch_size: rows of a batch on each rank.
            continuous: as for :meth:`training_loader`.
            num_workers: processes that read; 0 reads in the training process.
            options: further arguments of ``torch.utils.data.DataLoader``.
        """
        sampler = self._make_sampler(dataset, batch_size, False, 0, continuous)
        return _PositionedLoader(lambda: (0, 0), self.receive, dataset, sampler, 0, num_workers, options)

    def receive(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take every batch on its way from a loader to the trainer, in the training process.

        A subclass may count here what its datasets, which live in worker processes, wrote into the batch.

        Args:
            batch: as the dataset made it.

        Returns:
            The batch that the loader gives.
        """
        return batch

    @property
    def position(self) -> tuple[int, int]:
        """Epoch of the order, and number in it, of the next training batch."""
        if self.trainer is None:
            return 0, 0
        # Lightning's epoch counters skip and repeat around a resume; its count of finished batches does not.
        finished = self._finished_batches()
        start = self._restored
        if start is None or start["batches"] > finished:
            start = {"epoch": 0, "position": 0, "batches": 0}
        since = finished - start["batches"]
        if not since:
            return start["epoch"], start["position"]
        epochs, position = divmod(start["position"] + since, int(self.trainer.num_training_batches))
        return start["epoch"] + epochs, position

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, for the checkpoint (Lightning calls it)."""
        if self.trainer is None or self._sampler is None:
            return {}
        epoch, position = self.position
        return {
            "epoch": epoch,
            "position": position,
            "batches": self._finished_batches(),
            "length": len(self._sampler),
            "order": self._sampler.fingerprint(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was written (Lightning calls it)."""
        self._restored = dict(state_dict)

    def _finished_batches(self) -> int:
        assert self.trainer is not None
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return int(total.processed)

    def _make_sampler(
        self, dataset: BatchDataset, batch_size: int, shuffle: bool, seed: int, continuous: bool
    ) -> BatchSchedule:
        order: dict[str, Any] = {
            "shuffle": shuffle,
            "seed": seed,
            "rank": 0 if self.trainer is None else self.trainer.global_rank,
            "world_size": 1 if self.trainer is None else self.trainer.world_size,
        }
        if not continuous:
            return WindowBatchSampler(len(dataset), batch_size, **order)
        windows = dataset.windows
        if windows is None:
            raise MscoreError(
                f"the windows of {type(dataset).__name__} stand alone: they cannot continue each other from batch "
                "to batch; ask for a loader with continuous=False"
            )
        return EpisodeBatchSampler(windows.lengths.tolist(), windows.window, batch_size, **order)


class _PositionedLoader(DataLoader[dict[str, Any]]):
    """A loader that asks where to start each time that it is iterated."""

    def __init__(
        self,
        position: Callable[[], tuple[int, int]],
        receive: Callable[[dict[str, Any]], dict[str, Any]],
        dataset: BatchDataset,
        sampler: BatchSchedule,
        seed: int,
        num_workers: int,
        options: dict[str, Any],
    ) -> None:
        self._position = position
        self._receive = receive
        super().__init__(
            WorkerDataset(dataset) if num_workers else dataset,
            batch_sampler=sampler,
            num_workers=num_workers,
            collate_fn=_already_a_batch,
            # torch seeds the workers from this generator; with the global one, making an iterator would
            # move the random numbers that the model draws.
            generator=torch.Generator().manual_seed(seed),
            **{"persistent_workers": num_workers > 0, **options},
        )
        # Lightning would put a sampler of its own into the batch sampler of a run with several processes,
        # unless it finds one for such runs here. torch looks at the batch sampler only.
        self.__dict__["sampler"] = _SplitAlready()

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        assert isinstance(self.batch_sampler, BatchSchedule)
        self.batch_sampler.set_epoch(*self._position())
        return map(self._receive, map(received, super().__iter__()))

    # Lightning warns of inexact resuming unless a loader has these two. The data module keeps the position.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class _SplitAlready(DistributedSampler[Any]):
    """Says that every process has its share of the windows."""

    def __init__(self) -> None:
        pass


def _already_a_batch(batch: Any) -> Any:
    return batch


def _carried_over(state: dict[str, Any], sampler: BatchSchedule) -> dict[str, Any]:
    """A checkpoint's position in an order that differs from the one it was written with."""
    warnings.warn(
        "the data, the window, the batch size, the seed or the number of processes differs from the "
        "checkpoint's, so the order of the batches cannot be continued exactly: training goes on at the same "
        "share of the epoch",
        stacklevel=3,
    )
    position = state["position"] * len(sampler) // state["length"]
    return {**state, "position": position, "length": len(sampler), "order": sampler.fingerprint()}
