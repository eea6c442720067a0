"""Several runs beside each other: how their policies did over the steps that they were trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from mscore.errors import MscoreError
from mscore.evaluation.callback import HISTORY_FILE, EvaluationRow, read_history
from mscore.runs import directory as layout

MEASURES = ("success", "return", "length")
_FIGURE_INCHES, _DOTS_PER_INCH = (7.0, 4.2), 150


@dataclass(frozen=True)
class Curve:
    """How the runs of one name did.

    Attributes:
        label: the runs' name.
        runs: how many.
        steps: at which they were evaluated.
        mean: the measure's mean over the runs at each step.
        least: its least value there.
        greatest: its greatest value there.
    """

    label: str
    runs: int
    steps: list[int]
    mean: list[float]
    least: list[float]
    greatest: list[float]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {**self.__dict__}


def compare_runs(directories: Sequence[str | Path], measure: str = "success", stage: str | None = None) -> list[Curve]:
    """The curves of several runs; those of one name (several seeds) make one curve.

    Args:
        directories: the runs'. Of a run with stages the last one that was evaluated counts.
        measure: ``"success"``, ``"return"`` or ``"length"``.
        stage: another stage's name.

    Raises:
        MscoreError: a run that is not there, that was never evaluated, or that has no such measure.
    """
    histories: dict[str, list[dict[int, float]]] = {}
    for given in directories:
        directory = layout.find_run(given)
        name = layout.read_record(directory).get("name", directory.parent.name)
        histories.setdefault(name, []).append(_values(_history(directory, stage), measure, directory))
    return [_curve(name, values) for name, values in histories.items()]


def draw(curves: Sequence[Curve], measure: str, path: Path) -> None:
    """Write a figure of curves, with the range over the runs of a name as a band.

    Raises:
        MscoreError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MscoreError('figures need matplotlib: pip install "mscore[figures]"') from error
    figure = Figure(figsize=_FIGURE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        label = curve.label + (f" ({curve.runs} runs)" if curve.runs > 1 else "")
        (line,) = axes.plot(curve.steps, curve.mean, marker="o", markersize=3, label=label)
        if curve.runs > 1:
            axes.fill_between(curve.steps, curve.least, curve.greatest, color=line.get_color(), alpha=0.2, lw=0)
    axes.set_xlabel("training step")
    axes.set_ylabel({"success": "success rate"}.get(measure, measure))
    if measure == "success":
        axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(str(path))


def _history(directory: Path, stage: str | None) -> list[EvaluationRow]:
    stages = {entry.name.partition("-")[2]: entry for entry in layout.stage_directories(directory)}
    if stage is not None and stage not in stages:
        there = ", ".join(stages) or "it has none"
        raise MscoreError(f"{layout.shown(directory)} has no stage {stage!r}; stages: {there}")
    candidates = [stages[stage]] if stage is not None else [*reversed(stages.values()), directory]
    for candidate in candidates:
        rows = read_history(candidate / HISTORY_FILE)
        if rows:
            return rows
    raise MscoreError(f"{layout.shown(directory)} was not evaluated while it trained; its config needs `evaluation:`")


def _values(rows: Sequence[EvaluationRow], measure: str, directory: Path) -> dict[int, float]:
    values = {row.step: row.summary.metrics().get(f"eval/{measure}") for row in rows}
    if None in values.values():
        raise MscoreError(f"{layout.shown(directory)} has no {measure}: its environment does not say what a success is")
    return {step: value for step, value in values.items() if value is not None}


def _curve(label: str, runs: Sequence[dict[int, float]]) -> Curve:
    """The mean over runs where all of them were evaluated."""
    steps = sorted(set(runs[0]).intersection(*runs[1:]))
    columns = [[values[step] for values in runs] for step in steps]
    return Curve(
        label,
        len(runs),
        steps,
        [fmean(column) for column in columns],
        [min(column) for column in columns],
        [max(column) for column in columns],
    )
