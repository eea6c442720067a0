"""The order in which windows are seen that stand alone: each once an epoch, in any row."""

import numpy as np

from mscore.errors import MscoreError
from mscore.trajectories.schedule import BatchSchedule, Schedule
from mscore.trajectories.windows import IDLE


class WindowBatchSampler(BatchSchedule):
    """Batches of window numbers in which every window comes once an epoch and no row continues another.

    ``world_size * batch_size`` rows share each step of the epoch's one order: rank ``r`` has rows
    ``r * batch_size`` to ``(r + 1) * batch_size``, so that what two processes see is what one process with
    all rows sees. The last step is filled up with :data:`mscore.trajectories.IDLE` where the windows do not
    suffice; every rank has the same number of batches.

    The order is a function of (seed, epoch, rank, step) and of the arguments. Iterating changes nothing;
    ``set_epoch(epoch, position)`` says which epoch the next iteration plays, and from which batch.

    Args:
        windows: how many there are.
        batch_size: rows of a batch on each rank.
        shuffle: another order every epoch, else by number.
        seed: what the shuffling starts from, at least 0.
        rank: this process.
        world_size: number of processes.

    Raises:
        MscoreError: an argument out of its range, or no window.
    """

    def __init__(
        self,
        windows: int,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(batch_size, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        if windows < 1:
            raise MscoreError("there is no window: the dataset, or this part of its split, is empty")
        self.windows = windows

    def __len__(self) -> int:
        """Batches of a whole epoch, the same on every rank."""
        return -(-self.windows // (self.batch_size * self.world_size))

    def _plan(self, epoch: int) -> Schedule:
        order = np.arange(self.windows, dtype=np.int64)
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        rows = np.full(len(self) * self.batch_size * self.world_size, IDLE, dtype=np.int64)
        rows[: self.windows] = order
        return rows.reshape(len(self), self.world_size, self.batch_size)[:, self.rank]

    def _numbers(self) -> tuple[int, ...]:
        return (self.windows,)
