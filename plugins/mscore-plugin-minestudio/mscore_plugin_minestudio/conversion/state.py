"""What is done of a conversion, kept in the dataset's folder."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from mscore import MscoreError
from mscore_plugin_minestudio.storage.layout import MODALITY_FOLDERS
from mscore_plugin_minestudio.writing.writer import DRAFT_SUFFIX

STATE_FOLDER = ".conversion"
"""In a dataset that is being converted: the plan, and the results of finished parts."""

RESULT_FILE = "conversion.json"
"""In a converted dataset: what it was made of, and what was left out."""

_PLAN_FILE = "plan.json"


class ConversionState:
    """The state of one conversion; a context manager that holds the folder against other processes.

    Args:
        root: the dataset's folder.
        identity: the source and every choice that changes what is written.

    Raises:
        MscoreError: on entering: the folder is another process's, of another conversion, or of something else.
    """

    def __init__(self, root: Path, identity: dict[str, Any]) -> None:
        self._root = root
        self._folder = root / STATE_FOLDER
        # As JSON gives it back: what is compared has been written and read.
        self._identity = json.loads(json.dumps(identity))
        self._lock = FileLock(self._folder / "lock", timeout=0)

    def __enter__(self) -> Self:
        self._check_root()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise MscoreError(f"{self._root}: another process is converting into it; wait, or stop it") from None
        except OSError as error:
            raise MscoreError(f"{self._root}: it cannot be written ({error}); choose another folder") from error
        self._remove_drafts()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # An error in one part ends the processes that write the others.
        self._remove_drafts()
        if not (self._folder / _PLAN_FILE).exists():
            shutil.rmtree(self._folder)
        self._lock.release()

    def _remove_drafts(self) -> None:
        for draft in self._root.glob(f".*{DRAFT_SUFFIX}"):
            shutil.rmtree(draft)

    def result(self, plan: Sequence[str]) -> dict[str, Any] | None:
        """The finished conversion's account; None as long as it is not finished.

        Args:
            plan: names of the source's episodes.

        Raises:
            MscoreError: the source has other episodes than when it was converted.
        """
        path = self._root / RESULT_FILE
        if not path.exists():
            return None
        found = _read(path)
        self._check_plan(found["plan"], plan)
        self.give_up()
        return found

    def parts(self, divide: Callable[[], dict[str, list[str]]], plan: Sequence[str]) -> dict[str, list[str]]:
        """Part to its episodes, as it was divided when the conversion began.

        What unfinished parts left is removed.

        Args:
            divide: how to divide it now.
            plan: names of the source's episodes.

        Raises:
            MscoreError: the source has other episodes than when the conversion began.
        """
        path = self._folder / _PLAN_FILE
        if not path.exists():
            _write(path, {"identity": self._identity, "parts": divide()})
        parts: dict[str, list[str]] = _read(path)["parts"]
        self._check_plan([name for names in parts.values() for name in names], plan)
        for part in parts:
            if self.part_result(part) is None:
                for modality in MODALITY_FOLDERS:
                    shutil.rmtree(self._root / modality / part, ignore_errors=True)
        return parts

    def part_result(self, part: str) -> dict[str, Any] | None:
        """The account of a finished part; None if it is not finished."""
        path = self._folder / f"{part}.json"
        return _read(path) if path.exists() else None

    def finish_part(self, part: str, result: dict[str, Any]) -> None:
        """Write down that a part is in the dataset."""
        _write(self._folder / f"{part}.json", result)

    def finish(self, result: dict[str, Any], plan: Sequence[str]) -> None:
        """Write down that the conversion is finished."""
        _write(self._root / RESULT_FILE, {**self._identity, **result, "plan": list(plan)})
        self.give_up()

    def give_up(self) -> None:
        """Forget the plan."""
        (self._folder / _PLAN_FILE).unlink(missing_ok=True)

    def _check_root(self) -> None:
        found = [path.name for path in self._root.iterdir()] if self._root.is_dir() else []
        if RESULT_FILE in found:
            self._check_identity(_read(self._root / RESULT_FILE))
        elif (self._folder / _PLAN_FILE).exists():
            self._check_identity(_read(self._folder / _PLAN_FILE)["identity"])
        elif set(found) - {STATE_FOLDER}:
            raise MscoreError(
                f"{self._root} holds {', '.join(sorted(found)[:3])}, which is no conversion; choose an empty folder"
            )

    def _check_identity(self, found: dict[str, Any]) -> None:
        different = [
            f"{key} {found.get(key)!r} instead of {value!r}"
            for key, value in self._identity.items()
            if found.get(key) != value
        ]
        if different:
            raise MscoreError(
                f"{self._root} holds another conversion: {', '.join(different)}. Repeat its options to go on with it, "
                "or choose another folder"
            )

    def _check_plan(self, then: Sequence[str], now: Sequence[str]) -> None:
        if gone := sorted(set(then) - set(now)):
            raise MscoreError(f"{self._root}: the source has lost {_names(gone)} since the conversion began; {_REMEDY}")
        if new := sorted(set(now) - set(then)):
            raise MscoreError(f"{self._root}: the source has got {_names(new)} since the conversion began; {_REMEDY}")


_REMEDY = "put it back as it was, or convert into another folder"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{len(names)} episodes ({shown}{', …' if len(names) > 3 else ''})"


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MscoreError(f"{path} cannot be read ({error}); delete the folder and convert again") from error
    if not isinstance(data, dict):
        raise MscoreError(f"{path} is not what a conversion writes; delete the folder and convert again")
    return data


def _write(path: Path, data: dict[str, Any]) -> None:
    """Write a file so that it is there whole or not at all."""
    draft = path.with_name(f"{path.name}{DRAFT_SUFFIX}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise MscoreError(f"{path} cannot be written ({error})") from error
