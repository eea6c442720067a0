"""``mscore export``."""

from pathlib import Path

import click

from mscore.cli.options import process_options
from mscore.plugins import installed_plugins


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--to", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Where to write; a new folder."
)
@click.option("--ema", is_flag=True, help="Write the averaged weights instead of the trained ones.")
@process_options
def export(run_dir: Path, to: Path, ema: bool) -> None:
    """Write the policy of RUN_DIR (or of one of its checkpoints) for others.

    The folder holds the weights (model.safetensors) and how to build the policy (config.json).
    mscore.load_policy reads it, and so can programs without mscore.
    """
    installed_plugins().refuse_failed()
    from mscore.runs.exporting import export as write

    folder = write(run_dir, to, averaged=ema)
    click.echo(f"wrote {folder}/model.safetensors and {folder}/config.json")
    click.echo(f"to use it in Python: mscore.load_policy({str(folder)!r})")
