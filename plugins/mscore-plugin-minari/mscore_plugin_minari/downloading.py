"""Fetching a dataset from Minari's servers, when a config asks for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import minari

from mscore import MscoreError


def download(dataset_id: str, root: Path) -> None:
    """Download a dataset into a folder of datasets.

    Args:
        dataset_id: its id.
        root: the folder.

    Raises:
        MscoreError: it cannot be downloaded.
    """
    try:
        with _datasets_in(root):
            minari.download_dataset(dataset_id)
    except Exception as error:
        # Whatever the library of the server raises: it is not installed, there is no network, no such dataset.
        raise MscoreError(
            f"the dataset {dataset_id!r} cannot be downloaded to {root} ({type(error).__name__}: {error})"
        ) from error


@contextmanager
def _datasets_in(root: Path) -> Iterator[None]:
    """Let Minari, which knows its folder by a variable of the process alone, use another one."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(root)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before
