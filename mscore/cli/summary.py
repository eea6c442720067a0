"""What a run prints at its end, and a rehearsal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mscore.runs.directory import CHECKPOINTS, shown
from mscore.runs.rehearsal import Rehearsal
from mscore.runs.report import Report, duration, metric_cells

_SHOWN_METRICS = 12


def print_report(report: Report) -> None:
    """Print what was learned, where the run is, and what to type next."""
    console = Console(highlight=False)
    console.print()
    _print_learned(console, report)
    took = f"{report.step} steps in {duration(report.seconds)}" if report.step else duration(report.seconds)
    console.print(Text(f"{report.name}: {report.status}, {took}", style="bold"))
    run = shown(report.directory)
    # Paths and commands are printed as they are, in one line each, to be copied.
    lines = [f"  everything   {run}", f"  report       {run}/report.md"]
    checkpoints = [file for file in report.files if file.startswith(CHECKPOINTS)]
    if checkpoints:
        lines.append(f"  checkpoints  {run}/{CHECKPOINTS} ({len(checkpoints)})")
    lines += ["next:", *[f"  {command}" for command in report.next]]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _print_learned(console: Console, report: Report) -> None:
    for stage in report.stages:
        console.print(Text(f"{stage.name}: {stage.status}", style="bold"))
        _print_learned(console, stage)
    if report.evaluations:
        table = _table("evaluation at step", "weights", "success", "return", "episodes")
        rows = report.evaluations
        for row in rows if len(rows) <= _SHOWN_METRICS else [rows[0], *rows[-(_SHOWN_METRICS - 1) :]]:
            low, high = row.get("success_interval", (None, None))
            success = f"{row['success_rate']:.3f} [{low:.3f}, {high:.3f}]" if low is not None else ""
            table.add_row(str(row["step"]), row["weights"], success, f"{row['return_mean']:.3f}", str(row["episodes"]))
        console.print(table)
    if report.metrics:
        table = _table("metric", "first", "last", "best", "at step")
        for metric in report.metrics[:_SHOWN_METRICS]:
            table.add_row(*metric_cells(metric))
        console.print(table)
        if len(report.metrics) > _SHOWN_METRICS:
            console.print(Text(f"and {len(report.metrics) - _SHOWN_METRICS} more in report.md"))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def print_rehearsal(name: str, rehearsal: Rehearsal) -> None:
    """Print what a rehearsal found out."""
    console = Console(highlight=False)
    console.print(Text(f"{name}: everything can be built", style="bold"))
    step, size = rehearsal.step_seconds, rehearsal.checkpoint_bytes
    lines = [
        f"  parameters   {rehearsal.parameters:,} ({rehearsal.trainable:,} trained)",
        f"  observation  {rehearsal.observation_space}",
        f"  action       {rehearsal.action_space}",
        f"  step         {'not rehearsed by this trainer' if step is None else f'{step * 1e3:.1f} ms'}",
        f"  checkpoint   {'not known' if size is None else f'{size / 1e6:.1f} MB'}",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)
