"""Objectives: losses and metrics computed from a batch and a policy's latents."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch

if TYPE_CHECKING:
    from mscore.contracts.policy import MinePolicy

Batch = dict[str, Any]
"""Tensors with leading (B, T), and lists for text and episode names (see ``docs/contracts.md``)."""

Metrics = Mapping[str, torch.Tensor | float]


class ObjectiveCallback:
    """Base class of objectives (MineStudio's name for them).

    A subclass implements :meth:`__call__`. The term ``loss`` is added to the other objectives' losses
    and trained; every other key is logged as ``<step>/<label>/<key>``. An objective that also derives
    from ``torch.nn.Module`` has its parameters trained and its state saved with the policy's. For another
    one that carries something from step to step, ``state_dict()`` and ``load_state_dict(state)`` are enough:
    checkpoints keep what they exchange (plain data and tensors), for each process its own.

    Attributes:
        needs_batch: batch keys that it cannot do without; a missing one stops the run with a message.
        needs_latents: latents that it cannot do without; checked against the policy's
            ``provides_latents`` before anything is built, where the policy declares them.
        mean_over: what the loss is a mean over: ``"frames"`` that are valid, or ``"rows"`` that have one. The
            loss of a batch is then the mean of its parts' losses, weighted by that number, and the tests of
            ``mscore.testing`` hold it to that. None if it is no such mean.
    """

    needs_batch: ClassVar[frozenset[str]] = frozenset()
    needs_latents: ClassVar[frozenset[str]] = frozenset()
    mean_over: Literal["frames", "rows"] | None = None

    def before_step(self, batch: Batch, batch_idx: int, step_name: str) -> Batch:
        """Change or complete the batch before the policy sees it.

        Args:
            batch: the batch, on the module's device.
            batch_idx: index of the batch in the epoch.
            step_name: ``"train"`` or ``"val"``.

        Returns:
            The batch to use from here on.
        """
        return batch

    def __call__(
        self,
        batch: Batch,
        batch_idx: int,
        step_name: str,
        latents: dict[str, Any],
        mine_policy: "MinePolicy",
    ) -> Metrics:
        """Compute the objective's terms for one step.

        Args:
            batch: the batch, after every objective's :meth:`before_step`.
            batch_idx: index of the batch in the epoch.
            step_name: ``"train"`` or ``"val"``.
            latents: what the policy's ``forward`` returned.
            mine_policy: the policy being trained.

        Returns:
            0-d tensors or numbers by key; ``loss``, where there is one, carries the gradient.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement __call__")
