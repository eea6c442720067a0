"""``mscore recipes``: the ready configs that plugins bring."""

import shutil
from pathlib import Path

import click

from mscore.cli.commands import LazyGroup
from mscore.cli.options import json_option, process_options
from mscore.components import components, find
from mscore.errors import MscoreError


@click.group(cls=LazyGroup, path="recipes", invoke_without_command=True)
@json_option
@process_options
@click.pass_context
def recipes(context: click.Context, as_json: bool) -> None:
    """List the ready configs. `mscore run NAME` trains one as it is."""
    if context.invoked_subcommand is not None:
        return
    found = [
        {
            "recipe": component.name,
            "plugin": component.plugin.name,
            "about": _about(Path(component.target)),
            "file": component.target,
        }
        for component in components("recipe")
    ]
    if as_json:
        from mscore.cli.json_output import print_json

        print_json(found)
    elif found:
        from mscore.cli.tables import print_table

        print_table(["recipe", "plugin", "about"], [list(entry.values())[:3] for entry in found])
    else:
        click.echo("no installed plugin brings a recipe")


@click.command()
@click.argument("name")
@click.argument("to", required=False, type=click.Path(path_type=Path))
@process_options
def copy(name: str, to: Path | None) -> None:
    """Copy the recipe NAME to the file or folder TO (default: this folder), to change it there.

    An existing file is never overwritten.
    """
    recipe = find("recipe", name)
    target = to or Path()
    if target.is_dir():
        target = target / f"{recipe.name}.yaml"
    if target.exists():
        raise MscoreError(f"{target} exists already; name another file: mscore recipes copy {name} FILE")
    if not target.parent.is_dir():
        raise MscoreError(f"there is no folder {target.parent}")
    shutil.copyfile(recipe.target, target)
    click.echo(f"copied to {target}; change it, then: mscore run {target}")


def _about(path: Path) -> str:
    """The first sentence of the comment at a recipe's top."""
    first = path.read_text(encoding="utf-8").lstrip().partition("\n")[0]
    return first.lstrip("# ").strip() if first.startswith("#") else ""
