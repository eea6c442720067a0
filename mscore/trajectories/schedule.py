"""What every order of windows has in common: an epoch's batches, computed at once, from any of them on."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from mscore.errors import MscoreError

Schedule = npt.NDArray[np.int64]


class BatchSchedule(Sampler[list[int]], ABC):
    """Batches of window numbers as a function of (seed, epoch, rank, step) and of the arguments.

    Iterating changes nothing; :meth:`set_epoch` says which epoch the next iteration plays, and from which
    batch. Every epoch has the same number of batches on every rank.

    Args:
        batch_size: rows of a batch on each rank.
        shuffle: another order every epoch, else always the same.
        seed: what the shuffling starts from, at least 0.
        rank: this process.
        world_size: number of processes.

    Raises:
        MscoreError: an argument out of its range.
    """

    def __init__(self, batch_size: int, *, shuffle: bool, seed: int, rank: int, world_size: int) -> None:
        if batch_size < 1 or world_size < 1 or seed < 0 or not 0 <= rank < world_size:
            raise MscoreError(
                f"batch_size {batch_size}, world_size {world_size}, rank {rank}, seed {seed}: expected sizes "
                "of at least 1, a rank below world_size, and a seed of at least 0"
            )
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.position = 0
        self._cached: tuple[int, Schedule] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Batches of a whole epoch, the same on every rank."""

    def __iter__(self) -> Iterator[list[int]]:
        rows = self.schedule(self.epoch)[self.position :]
        return (row.tolist() for row in rows)

    def set_epoch(self, epoch: int, position: int = 0) -> None:
        """Let the next iteration play ``epoch`` from its batch number ``position`` on."""
        self.epoch = epoch
        self.position = position

    def schedule(self, epoch: int) -> Schedule:
        """This rank's batches of an epoch: window numbers (batches, batch_size) int64."""
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._plan(epoch))
        return self._cached[1]

    def fingerprint(self) -> str:
        """What the order depends on, apart from the epoch and the rank, as a short text."""
        numbers = (*self._numbers(), self.batch_size * self.world_size, self.shuffle, self.seed)
        return hashlib.sha256(repr(numbers).encode() + self._content()).hexdigest()[:16]

    @abstractmethod
    def _plan(self, epoch: int) -> Schedule:
        """Compute what :meth:`schedule` returns."""

    @abstractmethod
    def _numbers(self) -> tuple[int, ...]:
        """The order's own numbers, for the fingerprint."""

    def _content(self) -> bytes:
        """What else the order depends on, for the fingerprint."""
        return b""
