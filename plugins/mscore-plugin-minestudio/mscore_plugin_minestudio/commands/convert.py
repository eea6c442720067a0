"""``mscore data convert``: recordings, or a Minari dataset, to a dataset in MineStudio's layout."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mscore_plugin_minestudio.conversion.conversion import OnError, Report, Source


@click.command(short_help="Convert recordings or a Minari dataset.")
@click.argument("source")
@click.option("--to", "to", required=True, type=click.Path(path_type=Path), help="Folder of the dataset to write.")
@click.option(
    "--from", "kind", type=click.Choice(["vpt", "minari"]), help="What SOURCE is, if that cannot be seen from it."
)
@click.option("--size", metavar="WIDTHxHEIGHT", help="Size of the stored frames; default 224x224, Minari: unchanged.")
@click.option("--keep-noops", is_flag=True, help="Keep frames in which nothing is done (recordings).")
@click.option(
    "--keep-tail",
    is_flag=True,
    help="Keep the frames after an episode's last 32; MineStudio's own reader then sees filled-up chunks.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes; default one per core.")
@click.option(
    "--on-error",
    type=click.Choice(["skip", "raise"]),
    default="skip",
    show_default=True,
    help="Leave out what cannot be read and report it, or stop.",
)
def convert(
    source: str,
    to: Path,
    kind: str | None,
    size: str | None,
    keep_noops: bool,
    keep_tail: bool,
    workers: int | None,
    on_error: "OnError",
) -> None:
    """Convert SOURCE into a dataset in MineStudio's layout, which mscore and MineStudio read.

    SOURCE is a folder of recordings in the form of OpenAI's VPT (NAME.mp4 with NAME.jsonl, 640x360 at 20 frames
    per second), or the id or folder of a Minari dataset.

    A conversion that was stopped, or killed, goes on when the same command is given again. What is left out is
    listed at the end, and in conversion.json of the dataset.
    """
    from mscore_plugin_minestudio.conversion.conversion import Storage
    from mscore_plugin_minestudio.conversion.conversion import convert as run
    from mscore_plugin_minestudio.jobs import cores

    episodes = _source(source, kind or _kind(source), keep_noops)
    storage = Storage(_size(size) if size else episodes.stored_size, keep_tail)
    report = run(episodes, to, storage, workers=workers or cores(), on_error=on_error)
    _print(report, to)


def _kind(source: str) -> str:
    """Only a Minari dataset has metadata, or is no folder but an id."""
    path = Path(source)
    return "vpt" if path.is_dir() and not (path / "data" / "metadata.json").exists() else "minari"


def _source(source: str, kind: str, keep_noops: bool) -> "Source":
    if kind == "minari":
        if keep_noops:
            raise click.UsageError("--keep-noops is for recordings; of a Minari dataset every step is kept")
        from mscore_plugin_minestudio.conversion.minari import MinariEpisodes

        return MinariEpisodes(source)
    from mscore_plugin_minestudio.conversion.vpt import VptRecordings

    return VptRecordings(Path(source), keep_noops)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise click.BadParameter(f"{text!r}; expected a width and a height such as 224x224", param_hint="--size")
    width, height = int(match[1]), int(match[2])
    if width < 2 or height < 2 or width % 2 or height % 2:
        raise click.BadParameter(f"{text!r}; H.264 video needs even sides, 2 or more", param_hint="--size")
    return width, height


def _print(report: "Report", to: Path) -> None:
    written = report.written
    done = "was converted before" if report.was_finished else "converted"
    click.echo(f"{done}: {written.episodes} episodes, {written.frames} frames in {to}")
    for reason, frames in written.dropped.items():
        if frames:
            click.echo(f"  {frames} frames {reason} were dropped")
    if report.events:
        click.echo(f"  {sum(report.events.values())} occurrences of {len(report.events)} events")
    if written.omissions:
        click.echo(f"left out ({len(written.omissions)}):")
        for omission in written.omissions:
            click.echo(f"  {omission.what}: {omission.reason}")
