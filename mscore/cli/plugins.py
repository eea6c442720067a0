"""``mscore plugins``: what is installed, what it provides, and what is broken and why."""

from typing import Any

import click

import mscore
from mscore.cli.commands import LazyGroup
from mscore.cli.options import json_option, process_options
from mscore.plugins import CORE, Plugin, installed_plugins


@click.group(cls=LazyGroup, path="plugins", invoke_without_command=True)
@json_option
@click.option("-v", "--verbose", is_flag=True, help="Also show all names of the core, modules and load times.")
@click.option("--requirements", is_flag=True, help="Print their versions as a requirements file.")
@process_options
@click.pass_context
def plugins(context: click.Context, as_json: bool, verbose: bool, requirements: bool) -> None:
    """List the installed plugins and what they provide.

    A plugin that cannot be loaded is listed with its reason; runs that do not need it are not affected.
    """
    if context.invoked_subcommand is not None:
        return
    if requirements:
        _print_pins(as_json)
        return
    listed = list(installed_plugins())
    if as_json:
        from mscore.cli.json_output import print_json

        print_json({"mscore": mscore.__version__, "plugins": [describe(plugin) for plugin in listed]})
        return
    _print(listed, verbose)


def _print_pins(as_json: bool) -> None:
    from mscore.cli.pins import pin_line, pins

    found = pins(installed_plugins())
    if as_json:
        from mscore.cli.json_output import print_json

        print_json(found)
    else:
        click.echo("\n".join(map(pin_line, found)))


def describe(plugin: Plugin) -> dict[str, Any]:
    """A plugin as JSON has it."""
    return {
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "reason": plugin.reason,
        "module": plugin.target,
        "file": plugin.file,
        "components": {kind: plugin.names(kind) for kind in plugin.components if plugin.names(kind)},
        "load_ms": round(plugin.load_ms, 2),
        "heavy": plugin.heavy,
    }


def _print(listed: list[Plugin], verbose: bool) -> None:
    from rich.text import Text

    from mscore.cli.tables import print_table

    columns = ["plugin", "distribution", "version", "status", "provides"]
    rows = []
    for plugin in listed:
        status = Text(plugin.status, style={"ok": "green", "blocked": "yellow"}.get(plugin.status, "red"))
        row: list[str | Text] = [
            plugin.name,
            plugin.file or plugin.distribution,
            plugin.version,
            status,
            _provides(plugin, verbose) if plugin.status == "ok" else plugin.reason,
        ]
        if verbose:
            heavy = " heavy: it imports torch when it is loaded" if plugin.heavy else ""
            row.append(f"{plugin.load_ms:.1f} ms{heavy}")
            row.append(plugin.target)
        rows.append(row)
    print_table([*columns, *(["load", "module"] if verbose else [])], rows)


def _provides(plugin: Plugin, verbose: bool) -> str:
    """Names by kind; the core provides so many that only their number is said."""
    short = plugin.name == CORE and not verbose
    kinds = {kind: plugin.names(kind) for kind in sorted(plugin.components) if plugin.names(kind)}
    if short:
        return ", ".join(f"{len(names)} {kind}{'s' * (len(names) > 1)}" for kind, names in kinds.items())
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items())
