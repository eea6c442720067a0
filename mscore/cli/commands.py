"""Which commands there are: ours and the plugins', each imported only when it is called."""

from importlib import import_module
from typing import Any

import click

from mscore.errors import PluginError, did_you_mean

BUILTIN = {
    "run": ("mscore.cli.run:run", "Train from a config or a recipe."),
    "evaluate": ("mscore.cli.evaluate:evaluate", "Let a run's policy act in its environment."),
    "compare": ("mscore.cli.compare:compare", "Draw how several runs did, in one figure."),
    "export": ("mscore.cli.export:export", "Write a run's policy for others."),
    "deps": ("mscore.cli.deps:deps", "Print what to install for a config."),
    "schema": ("mscore.cli.schema:schema", "Print the JSON schema of configs, for editors."),
    "recipes": ("mscore.cli.recipes:recipes", "List the ready configs."),
    "recipes copy": ("mscore.cli.recipes:copy", "Copy a recipe, to change it."),
    "plugins": ("mscore.cli.plugins:plugins", "List the plugins and what they provide."),
    "plugins check": ("mscore.cli.check:check", "Hold a plugin against what mscore expects of one."),
    "plugins show": ("mscore.cli.show:show", "Show a component's parameters."),
    "plugins new": ("mscore.cli.new:new", "Write a plugin package from the template."),
}
"""Command path to import string and help; here, so that ``--help`` imports none of them."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called.

    Args:
        path: the group's command path, ``""`` for the program.
    """

    def __init__(self, *args: Any, path: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.path = path

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands in this group, built-in ones first."""
        return list(dict.fromkeys(name for path in [*BUILTIN, *_plugin_paths()] if (name := self._below(path))))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of that name.

        Raises:
            PluginError: the plugin's command cannot be imported, is none, or two plugins provide it.
        """
        path = f"{self.path} {cmd_name}".strip()
        if path in BUILTIN:
            module, _, attribute = BUILTIN[path][0].partition(":")
            command: click.Command = getattr(import_module(module), attribute)
            return command
        paths = _plugin_paths()
        if path in paths:
            return _load(path)
        if any(other.startswith(path + " ") for other in paths):
            return LazyGroup(cmd_name, path=path, help=_group_help(path), no_args_is_help=True)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was typed; an unknown one is answered with the nearest."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            hint = did_you_mean(name, self.list_commands(ctx)) or f" `{ctx.command_path} --help` lists them."
            raise click.UsageError(f"There is no command '{ctx.command_path} {name}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from what is known without importing them."""
        rows = [(name, self._short_help(name)) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def _below(self, path: str) -> str:
        """The word of a command path that follows this group's own path; empty if it lies elsewhere."""
        prefix = f"{self.path} " if self.path else ""
        return path[len(prefix) :].split(" ")[0] if path.startswith(prefix) else ""

    def _short_help(self, name: str) -> str:
        path = f"{self.path} {name}".strip()
        if path in BUILTIN:
            shadowed = ", ".join(_plugin_paths().get(path, []))
            return BUILTIN[path][1] + (f" (built-in; plugin {shadowed} claims it too)" if shadowed else "")
        providers = _plugin_paths().get(path)
        return f"From plugin {', '.join(providers)}." if providers else _group_help(path)


def _group_help(path: str) -> str:
    providers = {name for other, names in _plugin_paths().items() if other.startswith(path + " ") for name in names}
    return f"Commands from {', '.join(sorted(providers))}."


def _plugin_paths() -> dict[str, list[str]]:
    """Command path to the plugins that provide it."""
    from mscore.components import components

    paths: dict[str, list[str]] = {}
    for component in components("command"):
        paths.setdefault(component.name, []).append(component.plugin.name)
    return paths


def _load(path: str) -> click.Command:
    from mscore.components import components

    found = [component for component in components("command") if component.name == path]
    if len(found) > 1:
        providers = " and ".join(component.plugin.label for component in found)
        remedy = " or ".join(f"`mscore --without {component.plugin.name} {path}`" for component in found)
        raise PluginError(f"command {path!r} is provided by {providers}; leave one out: {remedy}")
    command = found[0].load()
    if not isinstance(command, click.Command):
        raise PluginError(
            f"command {path!r} of plugin {found[0].plugin.name!r} ({found[0].plugin.label}) is a "
            f"{type(command).__name__}, expected a click command"
        )
    return command
