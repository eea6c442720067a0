"""Averaged weights: the contract by which checkpoints, evaluation and export find them."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

AVERAGED_WEIGHTS_KEY = "averaged_weights"
"""Key of a checkpoint under which averaged weights are kept: a mapping of the name that the tensor has
in ``checkpoint["state_dict"]`` to the averaged tensor. Names that are absent are not averaged."""

AVERAGED_SUFFIX = "-EMA"
"""Ends the name (before ``.ckpt``) of the checkpoint whose ``state_dict`` holds the averaged weights."""


@runtime_checkable
class AveragedWeights(Protocol):
    """A Lightning callback that keeps an average of the trained weights, whoever wrote it."""

    @property
    def has_averaged_weights(self) -> bool:
        """True once an average exists that differs from 'not started'."""
        ...

    def averaged_weights_in_place(self) -> AbstractContextManager[None]:
        """Put the averaged weights into the model inside the context.

        The trained weights come back on exit, whatever happens inside. Entering it again while it is
        active changes nothing.
        """
        ...


def find_averaged_weights(callbacks: Iterable[object]) -> AveragedWeights | None:
    """The first callback that keeps averaged weights, or None."""
    return next((callback for callback in callbacks if isinstance(callback, AveragedWeights)), None)
