"""What a run has to say at its end: what was learned, where everything is, what to type next."""

import csv
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mscore.contracts.averaging import averaged_twin
from mscore.evaluation.callback import HISTORY_FILE, read_history
from mscore.runs import directory as layout
from mscore.runs import strict_json

REPORT_DATA = "report.json"
METRICS_FILE = "metrics.csv"

_LOWER_IS_BETTER = ("loss", "error", "divergence", "kl_div", "nll")
_HIGHER_IS_BETTER = ("success", "return", "reward", "accuracy")
_SHOWN_METRICS = 12


@dataclass(frozen=True)
class Metric:
    """How one number went."""

    name: str
    first: float
    last: float
    best: float | None
    """Least or greatest value, where the name tells which of them is good."""
    best_step: int | None


@dataclass(frozen=True)
class Report:
    """A run's summary; ``report.md`` and ``report.json`` hold it."""

    name: str
    directory: Path
    status: str
    step: int | None
    """Optimizer steps; None where no metric was logged."""
    seconds: float
    """Time that the run took, over all the times that it was gone on with."""
    metrics: list[Metric] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    """One per evaluation, as ``evaluations.jsonl`` has them."""
    files: list[str] = field(default_factory=list)
    """What the directory holds, relative to it."""
    stages: list["Report"] = field(default_factory=list)
    next: list[str] = field(default_factory=list)
    """Commands that make sense now."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {**asdict(self), "directory": str(self.directory), "stages": [one.to_dict() for one in self.stages]}

    def to_markdown(self) -> str:
        """As a page for people."""
        return "\n".join(_markdown(self)) + "\n"

    def write(self) -> None:
        """Write both files into the run's directory."""
        layout.write_file(self.directory / layout.REPORT_FILE, self.to_markdown())
        layout.write_file(self.directory / REPORT_DATA, strict_json.dumps(self.to_dict()) + "\n")


def make_report(directory: Path) -> Report:
    """Summarize a run from its directory."""
    record = layout.read_record(directory)
    rows = _read_rows(directory / METRICS_FILE)
    return Report(
        name=record.get("name", directory.parent.name),
        directory=directory,
        status=record.get("status", "unknown"),
        step=max((int(row["step"]) for row in rows), default=None),
        seconds=_seconds(record.get("sessions", [])),
        metrics=_metrics(rows),
        evaluations=[row.to_dict() for row in read_history(directory / HISTORY_FILE)],
        files=_files(directory),
        stages=[make_report(stage) for stage in layout.stage_directories(directory)],
        next=_next(directory, record.get("status")),
    )


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and row.get("step")]


def _metrics(rows: list[dict[str, str]]) -> list[Metric]:
    """Every metric but the evaluations', which have a place of their own; summed losses first."""
    names = {name for row in rows for name in row if name not in ("step", "epoch") and not name.startswith("eval/")}
    found = []
    for name in sorted(names, key=lambda name: (name not in ("train/loss", "val/loss"), name)):
        values = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
        if values:
            found.append(_metric(name, values))
    return found


def _metric(name: str, values: list[tuple[int, float]]) -> Metric:
    leaf = name.rpartition("/")[2]
    sign = 1 if leaf.endswith(_LOWER_IS_BETTER) else -1 if leaf.endswith(_HIGHER_IS_BETTER) else 0
    finite = [pair for pair in values if math.isfinite(pair[1])]
    if not sign or not finite:
        return Metric(name, values[0][1], values[-1][1], None, None)
    step, best = min(finite, key=lambda pair: sign * pair[1])
    return Metric(name, values[0][1], values[-1][1], best, step)


def _seconds(sessions: Iterable[dict[str, Any]]) -> float:
    """Time of all sessions that were ended; a killed one has left no end."""
    return sum(
        (datetime.fromisoformat(one["ended"]) - datetime.fromisoformat(one["started"])).total_seconds()
        for one in sessions
        if one["ended"]
    )


def _files(directory: Path) -> list[str]:
    entries = [entry for entry in sorted(directory.rglob("*")) if entry.is_file() and not entry.name.startswith(".")]
    own = [entry.relative_to(directory) for entry in entries]
    return [str(entry) for entry in own if entry.parts[0] != layout.STAGES]


def _next(directory: Path, status: str | None) -> list[str]:
    run = layout.shown(directory)
    resume = f"mscore run --resume {run}"
    if status in ("failed", "interrupted"):
        return [resume]
    from mscore.config import load_config

    config = load_config(directory / layout.CONFIG_FILE)
    last = config.stages[-1].config if config.stages else config
    export = f"mscore export {run} --to DIR"
    checkpoint = layout.last_checkpoint((layout.stage_directories(directory) or [directory])[-1])
    if checkpoint is not None and _keeps_average(checkpoint):
        export = f"mscore export {run} --ema --to DIR"
    evaluate = [f"mscore evaluate {run}"] if last.environment is not None else []
    longer = [] if config.stages else [f"{resume} trainer.max_steps=N"]
    return [*evaluate, export, *longer]


def _keeps_average(checkpoint: Path) -> bool:
    from mscore.contracts.averaging import AVERAGED_WEIGHTS_KEY
    from mscore.runs.weights import read_checkpoint

    return bool(read_checkpoint(checkpoint).get(AVERAGED_WEIGHTS_KEY)) or Path(averaged_twin(checkpoint)).exists()


def _markdown(report: Report, heading: str = "#") -> list[str]:
    lines = [f"{heading} {report.name}: {report.status}", ""]
    took = f"{report.step} steps in {duration(report.seconds)}" if report.step else duration(report.seconds)
    lines += [f"{took}, in `{layout.shown(report.directory)}`", ""]
    if report.evaluations:
        lines += ["| step | weights | success | return | episodes |", "| --- | --- | --- | --- | --- |"]
        for row in report.evaluations:
            success = f"{row['success_rate']:.3f}" if "success_rate" in row else ""
            lines.append(
                f"| {row['step']} | {row['weights']} | {success} | {row['return_mean']:.3f} | {row['episodes']} |"
            )
        lines.append("")
    if report.metrics:
        lines += ["| metric | first | last | best | at step |", "| --- | --- | --- | --- | --- |"]
        lines += ["| " + " | ".join(metric_cells(metric)) + " |" for metric in report.metrics]
        lines.append("")
    for stage in report.stages:
        lines += _markdown(stage, heading + "#")
    if heading == "#":
        lines += ["Files:", "", *[f"- {file}" for file in report.files], ""]
        lines += ["Next:", "", *[f"    {command}" for command in report.next]]
    return lines


def metric_cells(metric: Metric) -> list[str]:
    """A metric as the cells of a table's row."""
    best = "" if metric.best is None else f"{metric.best:.4g}"
    return [metric.name, f"{metric.first:.4g}", f"{metric.last:.4g}", best, str(metric.best_step or "")]


def duration(seconds: float) -> str:
    """A time as people say it: ``45 s``, ``3 min 5 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
