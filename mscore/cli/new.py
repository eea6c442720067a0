"""``mscore plugins new``."""

import shlex
from pathlib import Path

import click

from mscore.cli.options import process_options

_KINDS = ("objective", "policy", "callback", "datamodule", "environment", "trainer")


@click.command()
@click.argument("kind", metavar="KIND", type=click.Choice(_KINDS))
@click.argument("name")
@click.option(
    "--to", metavar="DIR", type=click.Path(path_type=Path), help="A new folder.  [default: mscore-plugin-NAME]"
)
@click.option("--author", metavar="TEXT", help="For the licence and the metadata.")
@process_options
def new(kind: str, name: str, to: Path | None, author: str | None) -> None:
    """Write a complete plugin package that provides a KIND called NAME.

    KIND is objective, policy, callback, datamodule, environment or trainer.

    It works as it is: a component, its tests, a recipe, a README, a licence, and a CI file that publishes it.
    """
    from mscore.template import write_package

    package = write_package(kind, name, to, author)  # type: ignore[arg-type]
    for line in package.warnings:
        click.echo(f"warning: {line}", err=True)
    click.echo(f"wrote {package.folder}: a package with the {kind} {name!r}; its code is in {package.component}")
    click.echo("next:")
    if package.folder.resolve() != Path.cwd():
        click.echo(f"  cd {shlex.quote(str(package.folder))}")
    for command in (
        'pip install -e ".[test]"',
        "pytest",
        f"mscore plugins check {name}",
        f"mscore run {name}",
    ):
        click.echo(f"  {command}")
