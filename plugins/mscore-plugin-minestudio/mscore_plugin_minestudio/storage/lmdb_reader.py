"""Reading an LMDB file: opened lazily, once per process, safe under fork and spawn."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakSet, finalize

import lmdb

from mscore_plugin_minestudio.storage.layout import DATA_FILE, DatasetError, PayloadError
from mscore_plugin_minestudio.storage.lmdb_pages import check_pages
from mscore_plugin_minestudio.storage.payloads import load_payload


class LmdbReader:
    """Values by key of the LMDB environment in a folder.

    The environment is opened at the first use, after a check of its pages, and once in a process, whoever reads
    it: liblmdb allows no more. A forked process opens its own, and a reader that is sent to another process
    leaves its environment behind.

    Args:
        folder: the folder that holds ``data.mdb``.

    Attributes:
        file: the path of ``data.mdb``.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / DATA_FILE
        self._environment: Any = None

    def get(self, key: bytes) -> bytes | None:
        """The value under a key; None if there is none.

        Raises:
            DatasetError: the file cannot be read.
        """
        environment = self._environment or self._open()
        try:
            with environment.begin() as transaction:
                value: bytes | None = transaction.get(key)
        except lmdb.Error as error:
            raise DatasetError(f"it cannot be read: {error}", file=self.file, key=key) from error
        return value

    @contextmanager
    def borrow(self, key: bytes) -> Iterator[memoryview | None]:
        """The value under a key where it lies, to be read in the block only; None if there is none.

        Raises:
            DatasetError: the file cannot be read.
        """
        environment = self._environment or self._open()
        try:
            with environment.begin(buffers=True) as transaction:
                yield transaction.get(key)
        except lmdb.Error as error:
            raise DatasetError(f"it cannot be read: {error}", file=self.file, key=key) from error

    def load(self, key: bytes) -> object:
        """The plain data under a key, as :func:`~mscore_plugin_minestudio.storage.payloads.load_payload` returns it.

        Raises:
            DatasetError: the key is missing, its value is no plain data, or the file cannot be read.
        """
        raw = self.get(key)
        if raw is None:
            raise DatasetError("the key is missing", file=self.file, key=key)
        try:
            return load_payload(raw)
        except PayloadError as error:
            raise DatasetError(str(error), file=self.file, key=key) from error

    def keys(self) -> Iterator[bytes]:
        """All keys, in the order of the file.

        Raises:
            DatasetError: the file cannot be read.
        """
        environment = self._environment or self._open()
        try:
            with environment.begin() as transaction:
                yield from transaction.cursor().iternext(keys=True, values=False)
        except lmdb.Error as error:
            raise DatasetError(f"it cannot be read: {error}", file=self.file) from error

    def __len__(self) -> int:
        """How many keys there are.

        Raises:
            DatasetError: the file cannot be read.
        """
        environment = self._environment or self._open()
        return int(environment.stat()["entries"])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None}

    def _open(self) -> Any:
        with _lock:
            shared = _shared(self.file)
            shared.readers += 1
            if not shared.is_open:
                # Collecting the last of its readers closed it between these lines.
                return self._open()
            _readers.add(self)
            self._environment = shared.environment
        finalize(self, _release, shared).atexit = False
        return self._environment

    def _leave(self) -> None:
        self._environment = None


_Identity = tuple[int, int]
"""Device and number of a file: paths may be links."""


@dataclass(eq=False)
class _Shared:
    """An environment that is open in this process, and how many read it."""

    identity: _Identity
    environment: Any
    readers: int = 0
    is_open: bool = True


# Reentrant, as a reader may be collected, and its environment closed, while another one is opened.
_lock = threading.RLock()
_opened: dict[_Identity, _Shared] = {}
_readers: WeakSet[LmdbReader] = WeakSet()
_checked: set[tuple[_Identity, int, int]] = set()
"""Files, of a size and of a time, whose pages are checked: a forked process need not check them again."""


def _shared(file: Path) -> _Shared:
    try:
        status = file.stat()
        identity = status.st_dev, status.st_ino
        shared = _opened.get(identity)
        if shared is None:
            version = identity, status.st_size, status.st_mtime_ns
            if version not in _checked:
                check_pages(file)
                _checked.add(version)
            environment = lmdb.open(str(file), subdir=False, readonly=True, lock=False)
            shared = _opened[identity] = _Shared(identity, environment)
    except (OSError, lmdb.Error) as error:
        raise DatasetError(f"it cannot be opened: {error}", file=file) from error
    return shared


def _release(shared: _Shared) -> None:
    """Close an environment behind its last reader."""
    with _lock:
        shared.readers -= 1
        if not shared.readers and shared.is_open:
            del _opened[shared.identity]
            _close(shared)


def _close(shared: _Shared) -> None:
    shared.is_open = False
    shared.environment.close()


def _leave_the_parents() -> None:
    """In a forked process: close what it must not use, and what liblmdb would not let it open again."""
    global _lock
    _lock = threading.RLock()
    for reader in _readers:
        reader._leave()
    for shared in _opened.values():
        _close(shared)
    _opened.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_the_parents)
