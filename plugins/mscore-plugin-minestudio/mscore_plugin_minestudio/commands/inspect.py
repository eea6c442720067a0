"""``mscore data inspect``: what a dataset holds, and what is wrong with it."""

import json
from pathlib import Path

import click


@click.command(short_help="Show what a dataset holds, and what is wrong with it.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--all", "every_chunk", is_flag=True, help="Read every chunk, also of a large dataset.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def inspect(directory: Path, every_chunk: bool, as_json: bool) -> None:
    """Show what the dataset in DIR holds: episodes, modalities, actions and events, and the problems found.

    Chunks of every modality are read, videos decoded: all of a small dataset, some hundreds of a large one,
    spread evenly.
    """
    from mscore_plugin_minestudio.inspection.inspection import inspect as look

    inspection = look(directory.expanduser(), every_chunk)
    if as_json:
        click.echo(json.dumps(inspection.as_json(), indent=2, allow_nan=False))
    else:
        from mscore_plugin_minestudio.inspection.tables import print_inspection

        print_inspection(inspection)
