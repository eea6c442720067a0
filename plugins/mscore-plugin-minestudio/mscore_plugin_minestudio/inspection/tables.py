"""An inspection of a dataset as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mscore_plugin_minestudio.inspection.inspection import Inspection

_LISTED = 10
"""Lines of a list; ``--json`` gives all of them."""

_BAR = 24
_ENDLESS = 100_000
_Row = tuple[str, ...]


def print_inspection(inspection: Inspection) -> None:
    """Print what a dataset holds; in a pipe every row is one line, for `grep`."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_ENDLESS)
    with console.capture() as capture:
        _Printer(console).print_all(inspection.as_json())
    click.echo("\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines()))


class _Printer:
    def __init__(self, console: Console) -> None:
        self._console = console

    def print_all(self, data: Mapping[str, Any]) -> None:
        self._title(f"{_shown(data['dataset'])}: {data['episodes']} episodes, {data['frames']} frames")
        if lengths := data["episode_frames"]:
            self._line(f"episodes of {lengths['min']} to {lengths['max']} frames, median {lengths['median']:g}")
        self._modalities(data["modalities"])
        if data["actions"]:
            self._actions(data["actions"])
        if data["events"]:
            rows = [(_shown(name), str(info["items"]), str(info["episodes"])) for name, info in data["events"].items()]
            rows.sort(key=lambda row: -int(row[1]))
            self._table(("event", "times", "episodes"), rows[:_LISTED], len(rows) - _LISTED)
        if data["left_out"]:
            self._title(f"left out: {len(data['left_out'])} episodes that not every modality holds alike")
            self._lines([f"{_shown(entry['name'])}: {_shown(entry['reason'])}" for entry in data["left_out"]])
        problems = data["problems"]
        self._title(f"problems found: {len(problems)}" if problems else "no problems found")
        self._lines([_shown(problem) for problem in problems])

    def _modalities(self, modalities: Mapping[str, Any]) -> None:
        rows = [
            (
                name,
                *(str(report[key]) for key in ("parts", "episodes", "frames")),
                f"{report['bytes'] / 1e6:.1f} MB",
                f"{report['checked']} of {report['chunks']}",
                _content(report["content"]),
            )
            for name, report in modalities.items()
        ]
        self._table(("modality", "parts", "episodes", "frames", "disk", "chunks read", "content"), rows)

    def _actions(self, actions: Mapping[str, Any]) -> None:
        frames = actions["frames"]
        if "keys" not in actions:
            self._arrays({key: column for key, column in actions.items() if key != "frames"})
            return
        counts = {"nothing": actions["nothing"], "camera": actions["camera"], **actions["keys"]}
        self._table(("action", "frames", "", ""), [(key, *_share(count, frames)) for key, count in counts.items()])
        rows: list[_Row] = [
            (degrees, *_share(actions["pitch"][degrees], frames), *_share(actions["yaw"][degrees], frames))
            for degrees in actions["pitch"]
        ]
        self._table(("camera, degrees", "pitch", "", "", "yaw", "", ""), rows)
        rows = [(name, *_share(count, frames)) for name, count in actions["most_frequent"].items()]
        more = actions["combinations"] - len(rows)
        self._table(("keys together", "frames", "", ""), rows, more)

    def _arrays(self, columns: Mapping[str, Any]) -> None:
        rows = [
            (
                _shown(key),
                f"{column['dtype']} {column['shape'] or ''}",
                *("" if column[name] is None else f"{column[name]:.4g}" for name in ("min", "mean", "max")),
                ", ".join(f"{value}: {count}" for value, count in list(column.get("values", {}).items())[:_LISTED]),
            )
            for key, column in columns.items()
        ]
        self._table(("action", "of a frame", "min", "mean", "max", "how often"), rows)

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def _line(self, text: str) -> None:
        self._console.print(Text(f"  {text}"), soft_wrap=True)

    def _lines(self, lines: Sequence[str]) -> None:
        for line in lines[:_LISTED]:
            self._line(line)
        if len(lines) > _LISTED:
            self._line(f"and {len(lines) - _LISTED} more: --json lists them")

    def _table(self, columns: Sequence[str], rows: Sequence[_Row], more: int = 0) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for number, column in enumerate(columns):
            is_number = bool(rows) and rows[0][number].replace(".", "").replace("-", "").isdigit()
            table.add_column(Text(column), justify="right" if is_number else "left", overflow="fold")
        for row in rows:
            # Text, as a name may hold what rich would read as markup.
            table.add_row(*(Text(cell) for cell in row))
        self._console.print()
        self._console.print(table)
        if more > 0:
            self._line(f"and {more} more")


def _share(count: int, frames: int) -> tuple[str, str, str]:
    share = count / frames if frames else 0
    return str(count), f"{share:.1%}", "█" * round(share * _BAR)


def _content(content: Mapping[str, Any]) -> str:
    """What chunks hold, in a few words."""
    words = []
    for name, value in content.items():
        if isinstance(value, dict):
            named = [f"{_shown(key)} ({count})" for key, count in list(value.items())[:3]]
            words.append(", ".join(named) + (", …" if len(value) > 3 else ""))
        elif isinstance(value, list):
            words.append(", ".join(_shown(item) for item in value))
        elif isinstance(value, float):
            words.append(f"{name.replace('_', ' ')}: {value:.1%}")
        elif value is not None:
            words.append(f"{name.replace('_', ' ')}: {value}")
    return "; ".join(word for word in words if word)


def _shown(name: str) -> str:
    """A name of a dataset's, harmless for a terminal."""
    return name if name.isprintable() else repr(name)[1:-1]
