"""Checkpoints that are either completely on disk or not there at all."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.plugins.io import TorchCheckpointIO

_TEMPORARY = re.compile(r"^\..+\.tmp-(\d+)$")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_writing: set[Path] = set()
"""Temporary files of this process that are in use, whichever instance or thread writes them."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its destination and renames it when every byte is on disk.

    Whatever ends the process, and at whatever moment, a file under a checkpoint's name is complete: the
    new one or the previous one. The file is streamed, so saving takes no memory of the checkpoint's size.
    Files are read with ``weights_only=True``: a checkpoint cannot run code.

    Paths of other file systems (``s3://…``) are left to Lightning's own writer and reader.
    """

    def __init__(self) -> None:
        super().__init__()
        self._batch: list[tuple[Path, Path]] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Save a checkpoint under ``path``, replacing the file of that name in one instant.

        Raises:
            OSError: with ``errno.ENOSPC`` if the disk is full; the previous file of that name is intact.
            TypeError: if ``storage_options`` is given.
        """
        if storage_options is not None or not _is_local(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        destination = Path(os.path.abspath(path))
        destination.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(destination.parent)
        temporary = _temporary(destination)
        _writing.add(temporary)
        try:
            _write(checkpoint, temporary)
            if self._batch is None:
                _publish([(temporary, destination)])
        except BaseException as error:
            _discard(temporary)
            if _is_disk_full(error):
                raise _disk_full(destination) from error
            raise
        if self._batch is None:
            _writing.discard(temporary)
        else:
            self._batch.append((temporary, destination))

    @contextmanager
    def saved_together(self) -> Iterator[None]:
        """Let what is saved inside appear at the end, in the order of saving.

        All files are written before the first one is renamed, so that a crash leaves files of two moments
        only if it falls between two renames. If the block raises, none of them appears.
        """
        if self._batch is not None:
            yield
            return
        self._batch = []
        try:
            yield
            _publish(self._batch)
        finally:
            for temporary, _ in self._batch:
                _discard(temporary)
            self._batch = None

    def load_checkpoint(
        self,
        path: _PATH,
        map_location: Callable[..., Any] | None = lambda storage, location: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint; ``weights_only`` is True whatever is asked for.

        Raises:
            FileNotFoundError: if there is no such file.
            pickle.UnpicklingError: if the file holds more than tensors, containers and plain values.
        """
        try:
            return super().load_checkpoint(path, map_location=map_location, weights_only=True)
        except Exception as error:
            error.add_note(f"while reading the checkpoint {path} (only tensors and plain values are read)")
            raise


def _is_local(path: _PATH) -> bool:
    return "://" not in str(path)


def _temporary(destination: Path) -> Path:
    return destination.with_name(f".{destination.name}.tmp-{os.getpid()}")


def _write(checkpoint: dict[str, Any], temporary: Path) -> None:
    with open(temporary, "wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())


def _discard(temporary: Path) -> None:
    temporary.unlink(missing_ok=True)
    _writing.discard(temporary)


def _remove_stale(folder: Path) -> None:
    """Remove temporary files that dead processes left in a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY.match(entry.name)
            if match and Path(entry.path) not in _writing and not _is_running_elsewhere(int(match[1])):
                Path(entry.path).unlink(missing_ok=True)


def _publish(files: list[tuple[Path, Path]]) -> None:
    for temporary, destination in files:
        os.replace(temporary, destination)
    if os.name == "posix":  # a folder cannot be opened elsewhere
        for folder in {destination.parent for _, destination in files}:
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _is_running_elsewhere(pid: int) -> bool:
    """True for another live process. Our own number on a file that we do not write was a namesake's."""
    if pid == os.getpid():
        return False
    if os.name != "posix":  # asking is impossible there: signal 0 means Ctrl+C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it lives, but belongs to someone else
        return True
    return True


def _is_disk_full(error: BaseException | None) -> bool:
    # torch's writer may hide the OSError behind its own RuntimeError, which keeps it as context.
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _disk_full(destination: Path) -> OSError:
    free = shutil.disk_usage(destination.parent).free
    kept = f"; the previous {destination.name} is intact" if destination.exists() else ""
    return OSError(
        errno.ENOSPC,
        f"no space left for checkpoint {destination} ({free / 1e9:.2f} GB free){kept}. "
        "Free some space, or keep fewer checkpoints (save_top_k)",
    )
