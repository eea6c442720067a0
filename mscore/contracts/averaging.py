"""Averaged weights: the contract by which checkpoints, evaluation and export find them.

A training checkpoint ``X.ckpt`` carries the average under :data:`AVERAGED_WEIGHTS_KEY`. Its twin
``X-EMA.ckpt`` is a weights-only checkpoint whose ``state_dict`` *is* the average, for those who just want
to load a model; it says so under :data:`AVERAGED_OF_KEY`.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

AVERAGED_WEIGHTS_KEY = "averaged_weights"
"""Key of a checkpoint under which averaged weights are kept: a mapping of the name that the tensor has
in ``checkpoint["state_dict"]`` to the averaged tensor. Names that are absent are not averaged."""

AVERAGED_SUFFIX = "-EMA"
"""Ends the name (before ``.ckpt``) of the checkpoint whose ``state_dict`` holds the averaged weights."""

AVERAGED_OF_KEY = "averaged_of"
"""Key of a checkpoint whose ``state_dict`` holds averaged weights. The value is the ``global_step`` of the
training checkpoint that it was written with: a pair whose steps differ does not belong together."""


@runtime_checkable
class AveragedWeights(Protocol):
    """A Lightning callback that keeps an average of the trained weights, whoever wrote it."""

    @property
    def has_averaged_weights(self) -> bool:
        """True once an average exists that differs from 'not started'."""
        ...

    def averaged_weights_in_place(self) -> AbstractContextManager[None]:
        """Put the averaged weights into the model inside the context.

        Inside, ``state_dict()`` of the model gives the averaged weights. The trained weights come back on
        exit, whatever happens inside. Entering it again while it is active changes nothing.
        """
        ...


def find_averaged_weights(callbacks: Iterable[object]) -> AveragedWeights | None:
    """The first callback that keeps averaged weights, or None."""
    return next((callback for callback in callbacks if isinstance(callback, AveragedWeights)), None)


def averaged_twin(path: str | os.PathLike[str]) -> str:
    """Path of the twin that holds the averaged weights of the checkpoint at ``path``.

    Only the file's own name changes: ``a.ckpt.d/x.ckpt`` gives ``a.ckpt.d/x-EMA.ckpt``.
    """
    stem, extension = os.path.splitext(os.fspath(path))
    return f"{stem}{AVERAGED_SUFFIX}{extension}"


def is_averaged_twin(path: str | os.PathLike[str], checkpoint: Mapping[str, Any] | None = None) -> bool:
    """True if a checkpoint's ``state_dict`` holds averaged weights.

    The content decides where it is given and says so; else the name, as other writers leave no mark.
    """
    if checkpoint is not None and AVERAGED_OF_KEY in checkpoint:
        return True
    if checkpoint is not None and AVERAGED_WEIGHTS_KEY in checkpoint:
        return False
    return os.path.splitext(os.fspath(path))[0].endswith(AVERAGED_SUFFIX)
