"""Lightning's ModelCheckpoint, with the averaged weights beside each checkpoint."""

import os
import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from weakref import proxy

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mscore import (
    AVERAGED_OF_KEY,
    AVERAGED_SUFFIX,
    AtomicCheckpointIO,
    AveragedWeights,
    averaged_twin,
    find_averaged_weights,
    is_averaged_twin,
)


class SmartCheckpointCallback(ModelCheckpoint):
    """Saves checkpoints as Lightning's ``ModelCheckpoint`` does, in pairs, and so that a crash costs none.

    If a callback of the trainer keeps averaged weights, ``X.ckpt`` is accompanied by ``X-EMA.ckpt``: a
    weights checkpoint (``state_dict``, ``hyper_parameters``, ``global_step``) of the averaged weights, which
    ``load_from_checkpoint`` reads like any other. The two are saved, linked and removed together. The twin
    holds no optimizer state, and is never what ``ckpt_path="last"`` or ``"best"`` picks.

    Files are written beside their destination and renamed when both are complete, so that there is a
    complete file under a checkpoint's name at all times. A twin's ``averaged_of`` is the ``global_step`` of
    the checkpoint that it was saved with.

    Several instances may have equal intervals, if directory, file name or what they keep differs.

    Args:
        **kwargs: those of ``lightning.pytorch.callbacks.ModelCheckpoint``.

    Raises:
        MisconfigurationException: if ``filename`` ends with ``-EMA``, the mark of averaged weights.
    """

    def __init__(self, **kwargs: Any) -> None:
        filename = kwargs.get("filename")
        if filename is not None and filename.endswith(AVERAGED_SUFFIX):
            raise MisconfigurationException(
                f"filename {filename!r} ends with {AVERAGED_SUFFIX}, the mark of averaged weights; choose another"
            )
        super().__init__(**kwargs)
        # The directory as it was given: a relative one stays the same when the run is moved.
        where = {name: kwargs[name] and str(kwargs[name]) for name in ("dirpath", "filename") if name in kwargs}
        kept = {name: getattr(self, name) for name in ("save_weights_only", "save_top_k", "save_last")}
        # Lightning asks for the key in every hook of every step.
        self._state_key = f"{super().state_key}{where | kept}"

    @property
    def state_key(self) -> str:
        """Tells instances apart by what they save and where, beside when."""
        return self._state_key

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Resolve the directory, and have checkpoints written atomically unless another writer was chosen."""
        super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        # As the base class does, but loggers, which may upload the file, hear of it when it is in place.
        averaged = find_averaged_weights(trainer.callbacks)  # type: ignore[attr-defined]
        with self._pair(trainer):
            if averaged is not None and averaged.has_averaged_weights:
                self._save_twin(trainer, averaged, averaged_twin(filepath))
            trainer.save_checkpoint(filepath, self.save_weights_only)
        trainer.strategy.barrier("SmartCheckpointCallback")
        self._last_global_step_saved = trainer.global_step
        self._last_checkpoint_saved = filepath
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))

    @staticmethod
    def _pair(trainer: Trainer) -> AbstractContextManager[None]:
        checkpoint_io = trainer.strategy.checkpoint_io
        return checkpoint_io.saved_together() if isinstance(checkpoint_io, AtomicCheckpointIO) else nullcontext()

    @staticmethod
    def _save_twin(trainer: Trainer, averaged: AveragedWeights, filepath: str) -> None:
        with averaged.averaged_weights_in_place():
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=True)
            checkpoint[AVERAGED_OF_KEY] = trainer.global_step
            # Lightning shows a checkpoint to callbacks only if it has this key: the average's keeper must see it.
            checkpoint.setdefault("callbacks", {})
            trainer.strategy.save_checkpoint(checkpoint, filepath)

    def _remove_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        link = self.last_model_path
        linked = self.save_last == "link" and os.path.islink(link)
        # Rank zero alone looks and acts: ranks that saw different files would wait for each other forever.
        if trainer.is_global_zero and linked and os.path.realpath(link) == os.path.realpath(filepath):
            # The link must not dangle, not even until the base class renews it.
            _replace_links(self._last_checkpoint_saved, link)
        super()._remove_checkpoint(trainer, averaged_twin(filepath))
        super()._remove_checkpoint(trainer, filepath)

    def _should_remove_checkpoint(self, trainer: Trainer, previous: str, current: str) -> bool:
        resumed = trainer.ckpt_path
        if resumed is not None and os.path.abspath(resumed) == os.path.abspath(averaged_twin(previous)):
            return False  # as for the checkpoint itself: what the run started from stays
        return super()._should_remove_checkpoint(trainer, previous, current)

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        return {path for path in super()._find_last_checkpoints(trainer) if not is_averaged_twin(path)}

    @staticmethod
    def _link_checkpoint(trainer: Trainer, filepath: str, linkpath: str) -> None:
        if trainer.is_global_zero and os.path.abspath(filepath) != os.path.abspath(linkpath):
            _replace_links(filepath, linkpath)
        trainer.strategy.barrier()


def _replace_links(filepath: str, linkpath: str) -> None:
    """Make one name point at a checkpoint and the name of its twin at the twin."""
    _replace_link(Path(averaged_twin(filepath)), Path(averaged_twin(linkpath)))
    _replace_link(Path(filepath), Path(linkpath))


def _replace_link(target: Path, link: Path) -> None:
    """Make ``link`` point at ``target`` in one instant; without a target, remove it."""
    if not target.exists():
        link.unlink(missing_ok=True)
        return
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    temporary = link.with_name(f".{link.name}.tmp-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(os.path.relpath(target, link.parent))
    except OSError:  # links need a privilege on Windows
        shutil.copy(target, temporary)
    os.replace(temporary, link)
