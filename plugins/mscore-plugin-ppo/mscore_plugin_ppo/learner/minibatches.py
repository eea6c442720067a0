"""Minibatches of fragments: whole sequences for a policy with memory, shuffled frames for one without."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from mscore import MinePolicy, tree_leaves, tree_map


class Minibatch(NamedTuple):
    """Rows to take one gradient from."""

    batch: dict[str, Any]
    state: Any
    """The policy's memory before each row; None for a policy without memory."""
    whole: bool
    """Every step is valid."""


def has_memory(policy: MinePolicy) -> bool:
    """Whether a policy carries anything from frame to frame."""
    return any(leaf.numel() for leaf in tree_leaves(policy.initial_state(1)))


class Minibatches:
    """Cuts the fragments of an iteration into minibatches, in a new order for every epoch.

    Fragments of a policy with memory stay whole, so that it reads them from their beginning. The frames of
    one without are shuffled across all fragments, as ``batch`` rows of one frame; those that are not valid
    are left out.

    Args:
        batch: all fragments, (B, T).
        state: the policy's memory before each, (B, …).
        recurrent: keep fragments whole.
        size: fragments of a minibatch; as many frames as they have, where frames are shuffled.
        random: gives the order.
        readers: threads that gather minibatches while the one before is learned from; 0 for none.
        ahead: minibatches that are gathered ahead of time, beside the next one.
    """

    def __init__(
        self,
        batch: dict[str, Any],
        state: Any,
        *,
        recurrent: bool,
        size: int,
        random: np.random.Generator,
        readers: ThreadPoolExecutor | None = None,
        ahead: int = 0,
    ) -> None:
        mask: torch.Tensor = batch["mask"]
        self._random = random
        self._readers = readers
        self._ahead = ahead
        self._whole = bool(mask.all())
        if recurrent:
            self._batch, self._state = batch, state
            rows = mask.shape[0]
        else:
            valid = None if self._whole else mask.flatten().nonzero().squeeze(1)
            self._batch = {key: _frames(value, mask.shape[1], valid) for key, value in batch.items()}
            self._state, self._whole = None, True
            rows, size = len(self._batch["mask"]), size * mask.shape[1]
        self._rows, self._size = rows, size
        self.count = -(-rows // size)
        """Minibatches of an epoch. More may be asked for, which are smaller."""

    def epoch(self) -> Iterator[Minibatch]:
        """All fragments (frames) once."""
        if self.count == 1:
            yield Minibatch(self._batch, self._state, self._whole)
            return
        order = torch.from_numpy(self._random.permutation(self._rows))
        parts = torch.split(order, self._size)
        if len(parts) < self.count:
            parts = torch.tensor_split(order, self.count)
        tasks = [partial(self._gather, rows) for rows in parts]
        yield from _read(tasks, self._readers, self._ahead)

    def _gather(self, rows: torch.Tensor) -> Minibatch:
        batch = {key: _taken(value, rows) for key, value in self._batch.items()}
        state = tree_map(lambda leaf: leaf[rows.to(leaf.device)], self._state)
        return Minibatch(batch, state, self._whole)


def chunks(minibatch: Minibatch, length: int) -> Iterator[tuple[dict[str, Any], float]]:
    """A minibatch's windows of at most ``length`` steps, in order, with the share of the steps that each has."""
    steps = minibatch.batch["mask"].shape[1]
    if steps <= length:
        yield minibatch.batch, 1.0
        return
    for start in range(0, steps, length):
        stop = min(start + length, steps)
        yield {key: _cut(value, start, stop) for key, value in minibatch.batch.items()}, (stop - start) / steps


def _read(
    tasks: Sequence[Callable[[], Minibatch]], readers: ThreadPoolExecutor | None, ahead: int
) -> Iterator[Minibatch]:
    if readers is None:
        for task in tasks:
            yield task()
        return
    waiting: deque[Future[Minibatch]] = deque()
    for task in tasks:
        waiting.append(readers.submit(task))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _frames(value: Any, steps: int, valid: torch.Tensor | None) -> Any:
    """Windows (B, T, …) as windows of one frame, (B * T, 1, …)."""
    if isinstance(value, list):
        rows: list[Any] = [
            [one] if isinstance(row, list) else one
            for row in value
            for one in (row if isinstance(row, list) else [row] * steps)
        ]
        return rows if valid is None else [rows[index] for index in valid.tolist()]
    flat = tree_map(lambda leaf: leaf.flatten(0, 1).unsqueeze(1), value)
    return flat if valid is None else tree_map(lambda leaf: leaf[valid.to(leaf.device)], flat)


def _taken(value: Any, rows: torch.Tensor) -> Any:
    if isinstance(value, list):
        return [value[index] for index in rows.tolist()]
    return tree_map(lambda leaf: leaf[rows.to(leaf.device)], value)


def _cut(value: Any, start: int, stop: int) -> Any:
    if isinstance(value, list):
        return [row[start:stop] if isinstance(row, list) else row for row in value]
    return tree_map(lambda leaf: leaf[:, start:stop], value)
