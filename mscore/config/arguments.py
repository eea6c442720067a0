"""A selection's parameters held against its component: unknown, missing, wrong, and nested components."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mscore.config.annotations import Nested
from mscore.config.grammar import name_problem
from mscore.config.messages import child
from mscore.config.model import Selection
from mscore.config.schema import Schema, component_schema, parameter_type
from mscore.errors import did_you_mean

if TYPE_CHECKING:
    from mscore.components import Component
    from mscore.plugins import PluginSet

Report = Callable[[str, str, str | None], None]
"""Takes a dotted path, what is wrong with it, and the path whose place is named if it is another."""

_LISTED = 16
"""How many parameter names a message lists in full."""


def component_of(selection: Selection, plugins: "PluginSet | None") -> "Component":
    """The registered component that a selection names."""
    from mscore.components import find

    return find(selection.kind, selection.use, plugins)


def schema_of(selection: Selection, target: Any) -> Schema:
    """The schema of what a selection's component has loaded."""
    return component_schema(target, selection.kind)


def checked_arguments(
    selection: Selection, schema: Schema, plugins: "PluginSet | None", report: Report
) -> dict[str, Any]:
    """Keyword arguments for the component, as the config gives them.

    Args:
        selection: the component and its parameters.
        schema: of the component.
        plugins: where nested components are looked up.
        report: gets every problem.

    Returns:
        Converted values; where a nested component stands, its :class:`Selection`.
    """
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    supplied = {parameter.name for parameter in schema.supplied}
    for name, value in selection.parameters.items():
        path = child(selection.path, name)
        if name in schema.names:
            known[name] = value
        elif name in supplied:
            report(path, "is supplied by mscore and cannot be set in a config", None)
        elif name in schema.hidden:
            report(path, "cannot be set in a config", None)
        elif schema.accepts_anything:
            extra[name] = value
        else:
            report(path, _unknown(selection, name, schema.names), None)
    for parameter in schema.parameters:
        if parameter.required and parameter.name not in known:
            path = child(selection.path, parameter.name)
            report(path, f"missing parameter, expected {parameter_type(parameter)}", selection.path)
    arguments, problems = schema.convert(known, selection.path)
    for path, text in problems:
        report(path, text, None)
    nested = {
        name: _selected(value, child(selection.path, name), name, selection.origin, plugins, report)
        for name, value in arguments.items()
    }
    return {**nested, **extra}


def nested_selections(value: Any) -> Iterator[Selection]:
    """The selections in an argument, wherever they stand."""
    if isinstance(value, Selection):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from nested_selections(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from nested_selections(item)


def replace_selections(value: Any, build: Callable[[Selection], Any]) -> Any:
    """The argument with each selection in it replaced by what ``build`` makes of it."""
    if isinstance(value, Selection):
        return build(value)
    if isinstance(value, dict):
        return {key: replace_selections(item, build) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(replace_selections(item, build) for item in value)
    return value


def _unknown(selection: Selection, name: str, names: list[str]) -> str:
    if not names:
        return f"unknown parameter, {selection.kind} {selection.use!r} takes none"
    hint = did_you_mean(name, names)
    if not hint and (spelled := [one for one in names if _initials(one) == name.lower()]):
        hint = f" Did you mean {spelled[0]!r}?"
    for known in names:
        # The whole path, so that it can be pasted back into the command line.
        hint = hint.replace(repr(known), repr(child(selection.path, known)))
    if len(names) <= _LISTED:
        return f"unknown parameter, expected one of: {', '.join(sorted(names))}.{hint}"
    return f"unknown parameter.{hint} `mscore plugins show {selection.use}` lists all {len(names)}."


def _initials(name: str) -> str:
    """``lr`` for ``learning_rate``."""
    return "".join(word[:1] for word in name.split("_"))


def _selected(value: Any, path: str, label: str, origin: str, plugins: "PluginSet | None", report: Report) -> Any:
    """The value with each nested component as a selection; one that no plugin provides is reported."""
    if isinstance(value, Nested):
        raw = {"use": value.value} if isinstance(value.value, str) else dict(value.value)
        use = raw.pop("use")
        problem = name_problem(value.kind, use, plugins)
        if problem is not None:
            report(child(path, "use") if isinstance(value.value, Mapping) else path, problem, None)
            return None
        return Selection(value.kind, label, use, {str(key): item for key, item in raw.items()}, path, origin)
    if isinstance(value, dict):
        return {
            key: _selected(item, child(path, str(key)), str(key), origin, plugins, report)
            for key, item in value.items()
        }
    if type(value) in (list, tuple):
        return type(value)(
            _selected(item, child(path, index), label, origin, plugins, report) for index, item in enumerate(value)
        )
    return value
