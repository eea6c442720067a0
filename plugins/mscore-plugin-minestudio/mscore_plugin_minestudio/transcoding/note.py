"""What a dataset was transcoded from, how, and what was left out, kept in its folder."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from mscore import MscoreError

NOTE_FILE = "transcoding.json"
LOCK_FILE = ".transcoding.lock"


class TranscodingNote:
    """The note in a transcoded dataset's folder; a context manager that holds the folder against other processes.

    Args:
        target: the dataset's folder.
        identity: the source and every choice that changes what is written, as plain data.

    Attributes:
        left_out: episode, or file, to why it is not in the dataset.

    Raises:
        MscoreError: on entering: the folder is another process's, of another transcoding, or of something else.
    """

    def __init__(self, target: Path, identity: Mapping[str, Any]) -> None:
        self.left_out: dict[str, str] = {}
        self._target = target
        self._file = target / NOTE_FILE
        self._identity = dict(identity)
        self._lock = FileLock(target / LOCK_FILE, timeout=0)

    def __enter__(self) -> Self:
        self._target.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise MscoreError(f"{self._target}: another process is transcoding into it; wait, or stop it") from None
        try:
            self._claim()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def add(self, left_out: Mapping[str, str]) -> None:
        """Write down what else is left out, and why."""
        self.left_out |= left_out
        draft = self._file.with_name(f".{NOTE_FILE}")
        with draft.open("w", encoding="utf-8") as file:
            json.dump({**self._identity, "left_out": self.left_out}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._file)

    def _claim(self) -> None:
        if not self._file.exists():
            found = sorted(path.name for path in self._target.iterdir() if path.name != LOCK_FILE)
            if found:
                raise MscoreError(
                    f"{self._target} holds {', '.join(found[:3])}, which is no transcoding; choose an empty folder"
                )
            self.add({})
            return
        try:
            note = json.loads(self._file.read_text(encoding="utf-8"))
            self.left_out = dict(note["left_out"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise MscoreError(
                f"{self._file} cannot be read ({error}); delete the folder and transcode again"
            ) from error
        different = [
            f"{key} {note.get(key)!r} instead of {value!r}"
            for key, value in self._identity.items()
            if note.get(key) != value
        ]
        if different:
            raise MscoreError(
                f"{self._target} holds another transcoding: {', '.join(different)}. "
                "Repeat its options to go on with it, or choose another folder"
            )
