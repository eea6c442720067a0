"""``mscore plugins show``: what a config may say about a component."""

from typing import Any

import click

from mscore.cli.options import json_option, process_options
from mscore.components import AmbiguousComponent, Component, UnknownComponent, components, find
from mscore.errors import did_you_mean
from mscore.hookspecs import KIND_OF_HOOK
from mscore.plugins import Plugin, canonical, installed_plugins

_KINDS = tuple(kind for kind in KIND_OF_HOOK.values() if kind not in ("recipe", "command"))


@click.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(_KINDS), help="Only components of this kind.")
@json_option
@process_options
def show(name: str, kind: str | None, as_json: bool) -> None:
    """Show the parameters, types, defaults and documentation of the component NAME, or a plugin's contents.

    NAME may be qualified, as in kl/kl or mscore/adamw. Only the component itself is imported.
    """
    plugins = [] if kind else [plugin for plugin in installed_plugins() if name in _names(plugin)]
    found = _components(name, (kind,) if kind else _KINDS)
    if not found and not plugins:
        known = {component.name for one in _KINDS for component in components(one)}
        known |= {label for plugin in installed_plugins() for label in _names(plugin)}
        what = kind or "component or plugin"
        raise UnknownComponent(f"unknown {what} {name!r}.{did_you_mean(name, known)} `mscore plugins` lists all.")
    if as_json:
        from mscore.cli.json_output import print_json
        from mscore.cli.plugins import describe as describe_plugin

        print_json([*map(describe_plugin, plugins), *map(describe, found)])
        return
    for plugin in plugins:
        _print_plugin(plugin)
    for component in found:
        _print_component(component)


def describe(component: Component) -> dict[str, Any]:
    """A component as JSON has it."""
    from mscore.config import component_schema
    from mscore.config.schema import default_text, parameter_type

    target = component.load()
    schema = component_schema(target, component.kind)
    return {
        "kind": component.kind,
        "name": component.name,
        "qualified": component.qualified,
        "plugin": component.plugin.name,
        "distribution": component.plugin.distribution,
        "version": component.plugin.version,
        "target": component.target,
        "doc": _first_paragraph(target),
        "parameters": [
            {
                "name": parameter.name,
                "type": parameter_type(parameter),
                "required": parameter.required,
                "default": None if parameter.required else default_text(parameter),
                "doc": parameter.doc,
            }
            for parameter in schema.parameters
        ],
        "accepts_anything": schema.accepts_anything,
        "json_schema": schema.json_schema(),
    }


def _names(plugin: Plugin) -> set[str]:
    return {plugin.name, canonical(plugin.distribution)}


def _components(name: str, kinds: tuple[str, ...]) -> list[Component]:
    """The components of that name, of every kind; a name that is ambiguous within a kind gives all of them."""
    found = []
    for kind in kinds:
        try:
            found.append(find(kind, name))
        except AmbiguousComponent:
            found += [component for component in components(kind) if component.name == name.rpartition("/")[2]]
        except UnknownComponent:
            continue
    return found


def _print_plugin(plugin: Plugin) -> None:
    click.secho(f"plugin {plugin.name}", bold=True, nl=False)
    click.echo(f" ({plugin.label}, {plugin.status})")
    if plugin.reason:
        click.echo(f"  {plugin.reason}")
    for kind in plugin.components:
        if plugin.names(kind):
            click.echo(f"  {kind}: {', '.join(plugin.names(kind))}")
    click.echo()


def _print_component(component: Component) -> None:
    from mscore.cli.tables import print_table

    shown = describe(component)
    click.secho(f"{component.kind} {component.name}", bold=True, nl=False)
    click.echo(f" ({component.plugin.label}, {component.target})")
    if shown["doc"]:
        click.echo(f"\n{shown['doc']}\n")
    rows = [
        [one["name"], one["type"], "required" if one["required"] else str(one["default"]), one["doc"]]
        for one in shown["parameters"]
    ]
    if rows:
        print_table(["parameter", "type", "default", "what it is"], rows)
    else:
        click.echo("no parameters")
    if shown["accepts_anything"]:
        click.echo("further parameters are passed on as they are")
    click.echo()


def _first_paragraph(target: Any) -> str:
    import inspect

    return (inspect.getdoc(target) or "").partition("\n\n")[0]
