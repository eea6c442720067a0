"""The order in which windows are seen: whole episodes, continuous from batch to batch."""

import heapq
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from mscore.trajectories.schedule import BatchSchedule, Schedule
from mscore.trajectories.windows import IDLE, Windows

SORTED_SHARES = (0.0, 0.125, 0.25, 0.5, 1.0)
"""Shares of the shuffled episodes that are handed out longest first, tried until the epoch fits."""


class EpisodeBatchSampler(BatchSchedule):
    """Batches of window numbers in which every row plays whole episodes, window by window.

    ``world_size * batch_size`` lanes share the episodes of an epoch: a lane that is free takes the next
    one and plays it to its end. So an episode is in one lane only, row ``i`` of a batch goes on where row
    ``i`` of the batch before stopped, and what two processes see is what the lanes of one process see:
    rank ``r`` has lanes ``r * batch_size`` to ``(r + 1) * batch_size``.

    Every epoch has the same number of batches on every rank: the least in which longest-first scheduling
    plays all episodes (for ``shuffle=False``, what the given order needs). A lane that has nothing left to
    play before that is idle, its rows are :data:`mscore.trajectories.IDLE`. The episodes and each lane's
    order are shuffled per epoch; the last of the shuffled episodes are handed out longest first where an
    epoch would not fit otherwise.

    The order is a function of (seed, epoch, rank, step) and of the arguments. Iterating changes nothing;
    ``set_epoch(epoch, position)`` says which epoch the next iteration plays, and from which batch.

    Args:
        episode_lengths: frames of each episode.
        window: frames of a window.
        batch_size: rows of a batch on each rank.
        shuffle: play the episodes in another order every epoch, else always in the given one.
        seed: what the shuffling starts from, at least 0.
        rank: this process.
        world_size: number of processes.

    Raises:
        MscoreError: an argument out of its range, no episode, or an empty episode.
    """

    def __init__(
        self,
        episode_lengths: Sequence[int],
        window: int,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(batch_size, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
        self.windows = Windows(episode_lengths, window)
        episodes = np.arange(len(self.windows.counts))
        self._steps = self._hand_out(self._longest_first(episodes) if shuffle else episodes)[1]

    def __len__(self) -> int:
        """Batches of a whole epoch, the same on every rank."""
        return self._steps

    def _plan(self, epoch: int) -> Schedule:
        schedule = np.full((self._steps, self.batch_size), IDLE, dtype=np.int64)
        mine = slice(self.rank * self.batch_size, (self.rank + 1) * self.batch_size)
        for row, lane in enumerate(self._lanes(epoch)[mine]):
            windows = list(chain.from_iterable(self._windows_of(episode) for episode in lane))
            schedule[: len(windows), row] = windows
        return schedule

    def _numbers(self) -> tuple[int, ...]:
        return (self.windows.window,)

    def _content(self) -> bytes:
        return np.ascontiguousarray(self.windows.lengths).tobytes()

    def _windows_of(self, episode: int) -> Iterable[int]:
        start = int(self.windows.offsets[episode])
        return range(start, start + int(self.windows.counts[episode]))

    def _lanes(self, epoch: int) -> list[list[int]]:
        """The episodes of each of the lanes of all ranks, in the order of playing."""
        episodes = np.arange(len(self.windows.counts))
        if not self.shuffle:
            return self._hand_out(episodes)[0]
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(episodes)
        for share in SORTED_SHARES:
            head = len(order) - round(share * len(order))
            lanes, steps = self._hand_out(np.concatenate((order[:head], self._longest_first(order[head:]))))
            if steps <= self._steps:
                break
        for lane in lanes:
            random.shuffle(lane)
        return lanes

    def _longest_first(self, episodes: np.ndarray) -> np.ndarray:
        return episodes[np.argsort(-self.windows.counts[episodes], kind="stable")]

    def _hand_out(self, order: np.ndarray) -> tuple[list[list[int]], int]:
        """Give each episode to the lane that is free first; the lanes, and the batches that they need."""
        lanes: list[list[int]] = [[] for _ in range(self.world_size * self.batch_size)]
        free_at = [(0, lane) for lane in range(len(lanes))]
        for episode, count in zip(order.tolist(), self.windows.counts[order].tolist(), strict=True):
            step, lane = free_at[0]
            lanes[lane].append(episode)
            heapq.heapreplace(free_at, (step + count, lane))
        return lanes, max(step for step, _ in free_at)
