"""``mscore data transcode``: a dataset's images at another size, in a form that reads faster."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mscore_plugin_minestudio.storage.modality import OnError
    from mscore_plugin_minestudio.transcoding.transcoding import Report


@click.command(short_help="Store a dataset's images at another size, to read faster.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--size", required=True, metavar="SIDE|WIDTHxHEIGHT", help="Size of the new frames: what you train at.")
@click.option("--to", "to", required=True, type=click.Path(path_type=Path), help="Folder of the dataset to write.")
@click.option(
    "--as",
    "form",
    type=click.Choice(["video", "jpeg", "raw"]),
    default="video",
    show_default=True,
    help="How to store them; see below.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads; default one per core.")
@click.option(
    "--on-error",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="Stop at an episode that cannot be read, or leave it out and report it.",
)
def transcode(directory: Path, size: str, to: Path, form: str, workers: int | None, on_error: "OnError") -> None:
    """Write the dataset in DIR anew, with its images at the size that you train at.

    Decoding is what reading costs. What the forms cost at 128x128, beside a dataset of 640x360:

    \b
           CPU time to read   disk a frame   pixels
    video        1/14            1 KB        colour blurred; MineStudio reads
                                             it too
    jpeg         1/6             7 KB        very close; MineStudio reads it
                                             too, and few frames of many fast
    raw          1/80           49 KB        exactly those of DIR, resized

    Everything but the images is copied. A transcoding that was stopped, or killed, goes on when the same command
    is given again. What is left out is listed at the end, and in transcoding.json of the dataset.
    """
    from mscore_plugin_minestudio.transcoding.transcoding import transcode as run

    report = run(directory, to, _size(size), form, workers=workers or len(os.sched_getaffinity(0)), on_error=on_error)
    _print(report, to, size, form)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(1 <= side <= 4096 for side in sides):
        text = f"{text!r}; expected a side such as 128, or a size such as 128x72, up to 4096"
        raise click.BadParameter(text, param_hint="--size")
    return sides


def _print(report: "Report", to: Path, size: str, form: str) -> None:
    frames = max(report.frames, 1)
    click.echo(f"transcoded: {report.frames} frames in {report.parts} parts, {form} of {size}, in {to}")
    click.echo(
        f"  disk      {report.bytes_before / 1e6:.1f} MB -> {report.bytes_after / 1e6:.1f} MB "
        f"({report.bytes_after / frames / 1e3:.1f} KB a frame)"
    )
    click.echo(
        f"  reading   {report.seconds_before * 1e3:.3f} ms -> {report.seconds_after * 1e3:.3f} ms of CPU time a frame"
    )
    if report.left_out:
        click.echo(f"left out ({len(report.left_out)}):")
        for name, reason in report.left_out.items():
            click.echo(f"  {name}: {reason}")
