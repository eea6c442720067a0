"""Memory carried from batch to batch, row by row.

A row goes on where it stopped when its episode is the same and its timestamps are consecutive; else its
state becomes the initial state and ``first`` is true at its first step. Whether a row goes on is decided
on the host, before the batch is moved to the device, so that the step never waits for the device.
"""

from typing import Any

import torch

from mscore.contracts.objective import Batch
from mscore.contracts.policy import MinePolicy, State
from mscore.tree import tree_detach, tree_leaves, tree_map

CONTINUITY_KEY = "continuity"
"""Batch key of the :class:`Continuity` that :meth:`Continuity.attach` computed on the host."""

_Position = tuple[str | None, int]


class Continuity:
    """Where each row of a batch begins and where the next batch would go on, on the host.

    Attributes:
        begins: per row, the episode and the timestamp of its first step.
        goes_on: per row, the episode and the timestamp that a continuation begins with.
    """

    __slots__ = ("begins", "goes_on")

    def __init__(self, episodes: list[str] | None, timestamp: torch.Tensor) -> None:
        first, last = timestamp[:, 0].tolist(), timestamp[:, -1].tolist()
        names = episodes if episodes is not None else [None] * len(first)
        self.begins: list[_Position] = list(zip(names, first, strict=True))
        self.goes_on: list[_Position] = [(name, step + 1) for name, step in zip(names, last, strict=True)]

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
        self._goes_on: list[_Position] = []
        self._state: State = None
        self._next: list[_Position] = []
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
        before, rows = self._goes_on, continuity.begins
        self._next = continuity.goes_on
        if rows == before:
            return (batch if "first" in batch else _begin_rows(batch, None)), self._state
        continues = [i < len(before) and row == before[i] for i, row in enumerate(rows)]
        if self._state is None or not any(continues):
            return _begin_all(batch), None
        initial = policy.initial_state(len(rows))
        device = next(tree_leaves(initial), batch["timestamp"]).device
        kept = torch.tensor(continues).to(device, non_blocking=True)
        state = tree_map(lambda fresh, old: _merge(kept, old, fresh), initial, self._state)
        return _begin_rows(batch, ~kept), state

    def keep(self, state: State) -> None:
        """Remember the state after a batch, detached from its graph."""
        self._goes_on = self._next
        self._state = tree_detach(state)

    def clear(self) -> None:
        """Forget everything, as at the start of an epoch of validation."""
        self._goes_on, self._next, self._state, self._restored = [], [], None, None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: plain lists and CPU tensors."""
        leaves = self._restored if self._restored is not None else list(tree_leaves(self._state))
        return {
            "goes_on": [list(position) for position in self._goes_on],
            "state": [leaf.detach().cpu().clone() for leaf in leaves],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave; the state takes its shape at the next batch."""
        self._goes_on = [(name, step) for name, step in saved["goes_on"]]
        self._restored = saved["state"]

    def _unflatten(self, policy: MinePolicy) -> None:
        """Give restored leaves the shape of the policy's initial state."""
        leaves = iter(self._restored or [])
        rows = len(self._goes_on)
        self._restored = None
        if not rows:
            return
        self._state = tree_map(lambda fresh: next(leaves).to(fresh.device), policy.initial_state(rows))


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
