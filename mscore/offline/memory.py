"""Memory carried from batch to batch, row by row.

A row goes on where it stopped when its episode is the same and its timestamps are consecutive (they advance
as they do within the window, by more than one where frames are skipped); else its state becomes the initial
state and ``first`` is true at its first step. Whether a row goes on is decided on the host, before the batch
is moved to the device, so that the step never waits for the device.
"""

from collections.abc import Iterator
from itertools import repeat, zip_longest
from typing import Any

import torch

from mscore.contracts.objective import Batch
from mscore.contracts.policy import MinePolicy, State
from mscore.tree import tree_detach, tree_leaves, tree_map

CONTINUITY_KEY = "continuity"
"""Batch key of the :class:`Continuity` that :meth:`Continuity.attach` computed on the host."""


class Continuity:
    """Where each row of a batch begins and where the next batch would go on, on the host.

    Attributes:
        episodes: per row, the name of its episode; None where the batch names none.
        begins: per row, the timestamp of its first step.
        goes_on: per row, the timestamp that a continuation begins with.
    """

    __slots__ = ("begins", "episodes", "goes_on")

    def __init__(self, episodes: list[str] | None, timestamp: torch.Tensor) -> None:
        steps = timestamp.numpy(force=True)
        self.episodes = None if episodes is None else list(episodes)
        # Plain integers: for some rows, comparing them is several times as fast as numpy's arithmetic.
        self.begins: list[int] = steps[:, 0].tolist()
        last = steps[:, -1].tolist()
        # Where an episode starts at the last step, time goes back; a window of one frame shows no stride.
        before = steps[:, -2].tolist() if steps.shape[1] > 1 else last
        self.goes_on = [step + max(step - previous, 1) for step, previous in zip(last, before, strict=True)]

    def continues(self, before: "Continuity | None") -> list[bool] | None:
        """Per row, whether it goes on where the batch before stopped; None if all do."""
        if before is None:
            return [False] * len(self.begins)
        if self.begins == before.goes_on and self.episodes == before.episodes:
            return None
        now, then = self._rows(self.begins), before._rows(before.goes_on)
        return [row == stopped for row, stopped in zip_longest(now, then)][: len(self.begins)]

    def _rows(self, steps: list[int]) -> Iterator[tuple[str | None, int]]:
        return zip(self.episodes or repeat(None), steps, strict=False)

    def state_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"episodes": self.episodes, "goes_on": self.goes_on}

    @classmethod
    def restored(cls, saved: dict[str, Any]) -> "Continuity":
        """What :meth:`state_dict` gave, to be gone on from."""
        stopped_at = torch.tensor(saved["goes_on"], dtype=torch.int64) - 1
        return cls(saved["episodes"], stopped_at.unsqueeze(1))

    @classmethod
    def of(cls, batch: Batch) -> "Continuity | None":
        """The continuity of a batch, or None for one without timestamps."""
        attached = batch.get(CONTINUITY_KEY)
        if isinstance(attached, cls):
            return attached
        timestamp = batch.get("timestamp")
        return None if timestamp is None else cls(batch.get("episode"), timestamp)

    @classmethod
    def attach(cls, batch: Any) -> Any:
        """Compute a batch's continuity while it is still on the host, and keep it with the batch."""
        if isinstance(batch, dict) and CONTINUITY_KEY not in batch and "timestamp" in batch:
            batch[CONTINUITY_KEY] = cls(batch.get("episode"), batch["timestamp"])
        return batch


class Memory:
    """A policy's state between batches, one row each.

    Use :meth:`prepare` before the policy's forward and :meth:`keep` after it.
    """

    def __init__(self) -> None:
        self._before: Continuity | None = None
        self._now: Continuity | None = None
        self._state: State = None
        self._restored: list[torch.Tensor] | None = None

    def prepare(self, batch: Batch, policy: MinePolicy) -> tuple[Batch, State]:
        """The state that a batch's rows begin with.

        Args:
            batch: the batch on the policy's device.
            policy: makes the initial state of rows that begin anew.

        Returns:
            The batch with ``first`` true where a row begins anew, and the state (None: all rows do).
        """
        continuity = Continuity.of(batch)
        if continuity is None:
            self.clear()
            return _begin_all(batch), None
        if self._restored is not None:
            self._unflatten(policy)
        self._now = continuity
        continues = continuity.continues(self._before)
        if continues is None:
            return (batch if "first" in batch else _begin_rows(batch, None)), self._state
        if self._state is None or not any(continues):
            return _begin_all(batch), None
        initial = policy.initial_state(len(continues))
        device = next(tree_leaves(initial), batch["timestamp"]).device
        kept = torch.tensor(continues).to(device, non_blocking=True)
        state = tree_map(lambda fresh, old: _merge(kept, old, fresh), initial, self._state)
        return _begin_rows(batch, ~kept), state

    def keep(self, state: State) -> None:
        """Remember the state after a batch, detached from its graph."""
        self._before = self._now
        self._state = tree_detach(state)

    def clear(self) -> None:
        """Forget everything, as at the start of an epoch of validation."""
        self._before, self._now, self._state, self._restored = None, None, None, None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain lists and CPU tensors."""
        leaves = self._restored if self._restored is not None else list(tree_leaves(self._state))
        return {
            "before": None if self._before is None else self._before.state_dict(),
            "state": [leaf.detach().cpu().clone() for leaf in leaves],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; the state takes its shape at the next batch."""
        before = saved["before"]
        self._before = None if before is None else Continuity.restored(before)
        self._restored = saved["state"]

    def _unflatten(self, policy: MinePolicy) -> None:
        """Give restored leaves the shape of the policy's initial state."""
        leaves = iter(self._restored or [])
        self._restored = None
        if self._before is None:
            return
        initial = policy.initial_state(len(self._before.goes_on))
        self._state = tree_map(lambda fresh: next(leaves).to(fresh.device), initial)


def _merge(kept: torch.Tensor, old: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
    """Rows of ``old`` that go on, else of ``fresh``; the batches may differ in size."""
    if old.shape[0] > fresh.shape[0]:
        old = old[: fresh.shape[0]]
    elif old.shape[0] < fresh.shape[0]:
        old = torch.cat([old, fresh[old.shape[0] :].to(old.dtype)])
    return torch.where(kept.view(-1, *[1] * (old.dim() - 1)), old, fresh.to(old.dtype))


def _begin_all(batch: Batch) -> Batch:
    first = _first_flags(batch)
    first[:, 0] = True
    return {**batch, "first": first}


def _begin_rows(batch: Batch, rows: torch.Tensor | None) -> Batch:
    first = _first_flags(batch)
    if rows is not None:
        first[:, 0] |= rows.to(first.device)
    return {**batch, "first": first}


def _first_flags(batch: Batch) -> torch.Tensor:
    """A copy of the batch's ``first`` (the data's own tensor is never changed), or all false."""
    if "first" in batch:
        flags: torch.Tensor = batch["first"]
        return flags.clone()
    for name in ("timestamp", "mask"):
        if name in batch:
            return torch.zeros_like(batch[name], dtype=torch.bool)
    leaf = next(tensor for tensor in tree_leaves(batch) if tensor.dim() >= 2)
    return torch.zeros(leaf.shape[:2], dtype=torch.bool, device=leaf.device)
