"""A run's directory: where it lies, what is in it, and how several processes come to share it."""

import json
import os
import warnings
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from mscore.contracts.averaging import AVERAGED_SUFFIX
from mscore.errors import MscoreError
from mscore.runs.ranks import is_rank_zero, launched_job

DIRECTORY_VARIABLE = "MSCORE_RUN_DIR"
"""Set by the process that a user started, for the further ranks that Lightning starts from it."""

ROOT = Path("runs")

CONFIG_FILE = "config.yaml"
"""The resolved config; loading it gives the same run."""
RECORD_FILE = "run.json"
"""Provenance and status: see ``docs/run.md``."""
REPORT_FILE = "report.md"
CHECKPOINTS = "checkpoints"
LAST_CHECKPOINT = "last.ckpt"
STAGES = "stages"
LATEST = "latest"
"""Link beside a name's runs that leads to the newest."""


def create(name: str, root: Path = ROOT) -> Path:
    """Make the directory of a new run, ``<root>/<name>/<time>``, which did not exist before.

    A further rank makes none and returns rank zero's. The path is absolute, so that a component which
    changes the working directory does not move the run.

    Raises:
        MscoreError: where nothing can be written.
    """
    inherited = os.environ.get(DIRECTORY_VARIABLE)
    if inherited and not is_rank_zero():
        return Path(inherited)
    parent = root.absolute() / name
    job = launched_job()
    if job and not is_rank_zero():
        return parent / job
    directory = _make_new(parent, job or datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    _link_latest(directory)
    os.environ[DIRECTORY_VARIABLE] = str(directory)
    return directory


def reopen(directory: str | Path) -> Path:
    """The directory of an earlier run, to go on in.

    Raises:
        MscoreError: if it is not a run's directory; the message names runs that are near.
    """
    path = find_run(directory)
    if is_rank_zero():
        os.environ[DIRECTORY_VARIABLE] = str(path)
    return path


def find_run(directory: str | Path) -> Path:
    """The absolute path of a run's directory; ``runs/<name>/latest`` is the newest run's of that name.

    Raises:
        MscoreError: if it is not a run's directory; the message names runs that are near.
    """
    path = Path(directory).expanduser().absolute()
    if path.name == LATEST and path.is_symlink():
        path = path.parent / path.readlink()
    if (path / CONFIG_FILE).is_file():
        return path
    what = "is not a run's directory" if path.is_dir() else "does not exist"
    runs = sorted(
        str(Path(directory) / entry.parent.name)
        for entry in path.glob(f"*/{RECORD_FILE}")
        if entry.parent.name != LATEST
    )
    message = f"{directory} {what} (no {CONFIG_FILE} in it)." if path.is_dir() else f"{directory} {what}."
    raise MscoreError(message + (f" Runs in it: {', '.join(runs[-3:])}" if runs else ""))


def stage_directories(directory: Path) -> list[Path]:
    """Directories of a run's stages that have begun, in order; none for a run without stages."""
    found = [entry for entry in (directory / STAGES).glob("*") if (entry / CONFIG_FILE).is_file()]
    return sorted(found, key=lambda entry: int(entry.name.partition("-")[0]))


def identity(directory: Path) -> str:
    """A name that tells a run, or a stage of one, from all others: ``groot-2026-09-01_12-00-00``."""
    if directory.parent.name == STAGES:
        return f"{identity(directory.parent.parent)}-{directory.name}"
    return f"{directory.parent.name}-{directory.name}"


def last_checkpoint(directory: Path) -> Path | None:
    """The checkpoint that a run goes on from, or None if nothing was saved yet.

    It is the full checkpoint with the most optimizer steps, whoever wrote it: ``checkpoints/last.ckpt`` or
    a checkpoint callback, wherever in the run's directory. A file that cannot be read is left out.
    """
    newest: tuple[int, float, Path] | None = None
    for path in directory.rglob("*.ckpt"):
        if path.stem.endswith(AVERAGED_SUFFIX) or STAGES in path.relative_to(directory).parts:
            continue
        step = _step_of_full_checkpoint(path)
        if step is not None and (newest is None or (step, path.stat().st_mtime) > newest[:2]):
            newest = (step, path.stat().st_mtime, path)
    return None if newest is None else newest[2]


def _step_of_full_checkpoint(path: Path) -> int | None:
    """Optimizer steps of a checkpoint that training can go on from; tensors stay on the disk."""
    import pickle

    import torch

    try:
        saved = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        warnings.warn(f"{path} cannot be read and is left out: {type(error).__name__}: {error}", stacklevel=3)
        return None
    return int(saved["global_step"]) if isinstance(saved, dict) and "optimizer_states" in saved else None


def read_record(directory: Path) -> dict[str, Any]:
    """A run's ``run.json``; empty if the run was stopped before it was written."""
    path = directory / RECORD_FILE
    if not path.exists():
        return {}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """Write a run's ``run.json``."""
    write_file(directory / RECORD_FILE, json.dumps(record, indent=2) + "\n")


def write_file(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one, never a part."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def shown(path: Path) -> str:
    """A path as a user would type it from here."""
    with suppress(ValueError):
        return str(path.absolute().relative_to(Path.cwd()))
    return str(path)


def _link_latest(directory: Path) -> None:
    """Let ``latest`` lead to a new run; a file system without links goes without."""
    temporary = directory.parent / f".{LATEST}-{os.getpid()}"
    with suppress(OSError):
        temporary.symlink_to(directory.name)
        os.replace(temporary, directory.parent / LATEST)


def _make_new(parent: Path, name: str) -> Path:
    """Make ``parent/name``, or ``name-2`` and so on where another run was faster."""
    attempt = 1
    while True:
        directory = parent / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            attempt += 1
        except OSError as error:
            raise MscoreError(f"cannot make the run's directory {directory}: {error.strerror}") from error
        else:
            return directory
