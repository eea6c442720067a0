"""``mscore data view``: a film of an episode, with what the dataset knows of it drawn on."""

from pathlib import Path

import click


@click.command(short_help="Write a film of an episode, with its actions drawn on.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("episode")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE.mp4", help="The film to write.")
@click.option("--start", type=click.IntRange(min=0), default=0, show_default=True, help="First frame.")
@click.option("--frames", type=click.IntRange(min=1), help="How many frames; default all.")
def view(directory: Path, episode: str, out: Path, start: int, frames: int | None) -> None:
    """Write a film of EPISODE of the dataset in DIR: pressed keys, the camera's movement, outlines and events.

    `mscore data inspect DIR` lists the episodes.
    """
    if out.suffix != ".mp4":
        raise click.BadParameter(f"{str(out)!r}; expected a file that ends in .mp4", param_hint="--out")
    from mscore_plugin_minestudio.viewing.viewing import view as write_film

    film = write_film(directory, episode, out, start=start, frames=frames)
    click.echo(f"{film.frames} frames in {out}, with {', '.join(film.drawn) or 'nothing'} drawn on")
    for what, reason in film.missing.items():
        click.echo(f"  without {what}: {reason}")
