"""The default logger: one ``metrics.csv`` that survives a resume."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class CSVLogger(Logger):
    """Writes metrics to ``<save_dir>/metrics.csv``, one row per step.

    Lightning's own CSV logger deletes the rows of an earlier fit in the same folder. This one goes on
    where the file ends; rows of steps that are trained again after a resume are replaced.

    Args:
        save_dir: folder of the file.
    """

    FILE_NAME = "metrics.csv"

    def __init__(self, save_dir: str | Path = ".") -> None:
        super().__init__()
        self._path = Path(save_dir) / self.FILE_NAME
        self._columns: list[str] = []
        self._rows_on_disk = 0
        self._pending: dict[str, Any] = {}
        self._opened = False

    @property
    def name(self) -> str:
        """Kind of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Always empty: the run's directory tells runs apart."""
        return ""

    @property
    def log_dir(self) -> str:
        """Folder of the file."""
        return str(self._path.parent)

    @property
    def save_dir(self) -> str:
        """Folder of the file."""
        return str(self._path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the run's directory holds the resolved config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add metrics to the row of a step; the row is written when the next step's begins."""
        step = 0 if step is None else step
        if not self._opened:
            self._open(step)
        if self._pending and self._pending["step"] != step:
            self.save()
        self._pending.setdefault("step", step)
        self._pending.update({key: float(value) for key, value in metrics.items()})

    @rank_zero_only
    def save(self) -> None:
        """Write the row that is being filled."""
        if not self._pending:
            return
        new = [key for key in self._pending if key not in self._columns]
        if new:
            self._rewrite([*self._columns, *new], self._read())
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(self._pending)
        self._pending = {}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is left."""
        self.save()

    def _open(self, step: int) -> None:
        self._opened = True
        self._path.parent.mkdir(parents=True, exist_ok=True)
        rows = self._read()
        if rows:
            kept = [row for row in rows if int(row["step"] or 0) < step]
            self._rewrite(list(rows[0]), kept)

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        with self._path.open(newline="") as file:
            # A kill can leave a last line that is cut short: it has fewer fields than the header.
            return [row for row in csv.DictReader(file) if None not in row.values()]

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        self._columns = columns
        temporary = self._path.with_suffix(".csv.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, self._path)
