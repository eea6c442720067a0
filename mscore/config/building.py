"""From selections to components: checked arguments, nested components first, then the constructor."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mscore.config.arguments import checked_arguments, component_of, replace_selections, schema_of
from mscore.config.messages import child
from mscore.config.model import Selection
from mscore.errors import ConfigError

if TYPE_CHECKING:
    from mscore.plugins import PluginSet


def build_arguments(
    selection: Selection, plugins: "PluginSet | None" = None, injected: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """The component that a selection names, and the arguments to call it with.

    Args:
        selection: the component and its parameters.
        plugins: where components are looked up; None means the installed ones.
        injected: what the core supplies, by parameter name; the constructor gets those that it names. The
            first parameter of an optimizer (``params``) and of a scheduler (``optimizer``) is supplied
            under that name whatever the constructor calls it.

    Returns:
        The class or factory, and keyword arguments with nested components built.

    Raises:
        ConfigError: parameters that are wrong, or a nested component that cannot be built.
        PluginError: a component that no plugin provides or that cannot be imported.
    """
    target = component_of(selection, plugins).load()
    schema = schema_of(selection, target)
    problems: list[str] = []

    def report(path: str, text: str, written_at: str | None = None) -> None:
        problems.append(f"{selection.origin}: {path}: {text}")

    arguments = checked_arguments(selection, schema, plugins, report)
    supplied = dict(injected or {})
    core_name = {"optimizer": "params", "scheduler": "optimizer"}.get(selection.kind)
    if core_name in supplied and schema.supplied:
        supplied[schema.supplied[0].name] = supplied[core_name]
    given: dict[str, Any] = {}
    for parameter in schema.supplied:
        if parameter.name in supplied:
            given[parameter.name] = supplied[parameter.name]
        elif parameter.required and parameter.name != "render_mode":
            path = child(selection.path, parameter.name)
            report(path, f"is needed by {selection.kind} {selection.use!r}, and this run does not have it")
    if problems:
        raise ConfigError(problems)
    built = {
        name: replace_selections(value, lambda nested: build(nested, plugins, injected))
        for name, value in arguments.items()
    }
    return target, {**built, **given}


def build(selection: Selection, plugins: "PluginSet | None" = None, injected: Mapping[str, Any] | None = None) -> Any:
    """Build the component that a selection names.

    An environment becomes an ``mscore.Environment``, also one that is registered as a plain callable.

    Args:
        selection: the component and its parameters.
        plugins: where components are looked up; None means the installed ones.
        injected: see :func:`build_arguments`.

    Raises:
        ConfigError: also for an exception of the constructor, which is chained to it.
        PluginError: a component that no plugin provides or that cannot be imported.
    """
    target, arguments = build_arguments(selection, plugins, injected)
    schema = schema_of(selection, target)
    positional = [
        arguments.pop(parameter.name)
        for parameter in (*schema.supplied, *schema.parameters)
        if parameter.by_position and parameter.name in arguments
    ]
    try:
        if selection.kind == "environment":
            from mscore.contracts.environment import as_environment

            return as_environment(target, arguments)
        return target(*positional, **arguments)
    except Exception as error:
        plugin = component_of(selection, plugins).plugin
        what = f"{selection.kind} {selection.use!r} of {plugin.label}"
        error.add_note(f"while building {selection.path}: {what}")
        reason = " ".join(str(error).split()) or "no message"
        line = f"{selection.origin}: {selection.path}: {what} cannot be built: {type(error).__name__}: {reason}"
        raise ConfigError([line]) from error
