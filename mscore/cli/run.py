"""``mscore run``: train, resume, rehearse."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mscore.cli.options import process_options
from mscore.plugins import installed_plugins
from mscore.runs.ranks import is_rank_zero

if TYPE_CHECKING:
    from mscore.config import RunConfig


@click.command(short_help="Train from a config or a recipe.")
@click.argument("arguments", nargs=-1, metavar="[CONFIG] [KEY=VALUE]...")
@click.option("--resume", metavar="RUN_DIR", help="Go on with a run, from its last checkpoint.")
@click.option("--dry-run", is_flag=True, help="Check and build everything, try a batch or two, keep nothing.")
@click.option("--strict", is_flag=True, help="Stop if any installed plugin cannot be loaded, needed or not.")
@process_options
def run(arguments: tuple[str, ...], resume: str | None, dry_run: bool, strict: bool) -> None:
    """Train from CONFIG, a YAML file or the name of a recipe.

    KEY=VALUE changes one value of the config, such as objectives.bc.weight=0.5 or trainer.max_steps=100.

    With --resume nothing else is needed; only what ends a run (such as trainer.max_steps), devices and
    loggers may be changed then.
    """
    if resume is not None and dry_run:
        raise click.UsageError("--dry-run is for a new run, not for --resume")
    if resume is None and (not arguments or ("=" in arguments[0] and not Path(arguments[0]).exists())):
        raise click.UsageError("which config? Give a YAML file or a recipe's name (`mscore recipes` lists them)")
    installed_plugins().refuse_failed(every=strict)
    config, overrides = (None, arguments) if resume is not None else (arguments[0], arguments[1:])
    if dry_run:
        assert config is not None
        _rehearse(config, overrides)
    else:
        _train(config, overrides, resume)


def _train(source: str | None, overrides: Sequence[str], resume: str | None) -> None:
    from mscore.cli.quiet import quiet_lightning
    from mscore.runs.training import prepare, run_in

    directory, config = prepare(source, overrides, resume=resume)
    quiet_lightning()
    if is_rank_zero():
        _announce(config, directory)
    report = run_in(directory, config).report
    if report is not None:
        from mscore.cli.summary import print_report

        print_report(report)


def _announce(config: "RunConfig", directory: Path | None) -> None:
    """Say which code runs, and where; and what is installed but cannot be used."""
    from mscore.runs.directory import shown
    from mscore.runs.provenance import header, plugin_records

    click.echo(header(plugin_records(config)))
    for plugin in installed_plugins().failed:
        click.echo(f"warning: plugin {plugin.name!r} ({plugin.label}) is {plugin.status}: {plugin.reason}", err=True)
    if directory is not None:
        click.echo(f"run directory: {shown(directory)}")


def _rehearse(source: str, overrides: Sequence[str]) -> None:
    from mscore.cli.quiet import quiet_lightning
    from mscore.cli.summary import print_rehearsal
    from mscore.config import load_config
    from mscore.runs.rehearsal import rehearse
    from mscore.runs.training import check

    config = check(load_config(source, overrides))
    quiet_lightning()
    if is_rank_zero():
        _announce(config, None)
    for name, rehearsal in rehearse(config):
        print_rehearsal(name, rehearsal)
    click.echo("nothing was kept; without --dry-run this config trains")
