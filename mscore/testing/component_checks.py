"""What every component must do: be imported, have a constructor that a config can drive, be built."""

import inspect
from typing import Any

from mscore.config.schema import Schema
from mscore.config.signatures import MISSING, Parameter
from mscore.testing.checks import ANY, CheckSkipped, check, require
from mscore.testing.subjects import PLAIN, ComponentSubject


@check(ANY, "imports", remedy="correct the import string, or declare the missing package as a dependency")
def imports(subject: ComponentSubject) -> None:
    """The import string of the registration names a class or a function that can be imported."""
    _ = subject.schema


@check(ANY, "parameters-typed", remedy="annotate the parameter: `gamma: Annotated[float, Ge(0)] = 2.0`")
def parameters_typed(subject: ComponentSubject) -> None:
    """Every parameter of the constructor has a type, which configs are checked against."""
    untyped = [one.name for one in subject.schema.parameters if one.annotation is inspect.Parameter.empty]
    require(not untyped, f"without a type: {', '.join(untyped)}")


@check(ANY, "survives-yaml", remedy="use defaults that YAML can write: numbers, text, lists, mappings, null")
def survives_yaml(subject: ComponentSubject) -> None:
    """Defaults are plain data, fit their own types and come back from YAML as they were."""
    import yaml

    defaults = {one.name: one.default for one in subject.schema.parameters if _is_said(one)}
    odd = [f"{name}={value!r}" for name, value in defaults.items() if not isinstance(value, PLAIN)]
    require(not odd, f"no plain data: {', '.join(odd)}")
    back = yaml.safe_load(yaml.safe_dump(defaults))
    changed = [name for name, value in defaults.items() if back[name] != value and value == value]
    require(not changed, f"not the same after YAML: {', '.join(changed)}")
    _, problems = subject.schema.convert(back, subject.component.name)
    require(not problems, "; ".join(f"{path}: {text}" for path, text in problems))
    import json

    json.dumps(subject.schema.json_schema())


def _is_said(parameter: Parameter) -> bool:
    """Whether a parameter's default is one that a config would write."""
    if parameter.default is MISSING or isinstance(parameter.default, set | frozenset | tuple):
        return False
    from enum import Enum
    from pathlib import PurePath

    # YAML writes these in another way, and they are converted back.
    return not isinstance(parameter.default, Enum | PurePath) and not hasattr(parameter.default, "total_seconds")


@check(ANY, "documented", remedy="describe it in the class docstring's `Args:` section", advice=True)
def documented(subject: ComponentSubject) -> None:
    """The component has a docstring, and its `Args:` section describes every parameter."""
    require(inspect.getdoc(subject.target), f"{subject.component.target} has no docstring")
    silent = [one.name for one in _own(subject.schema) if not one.doc]
    require(not silent, f"not described: {', '.join(silent)}")


def _own(schema: Schema) -> list[Parameter]:
    """The parameters that the component states itself; those behind ``**kwargs`` are others' to describe."""
    function: Any = getattr(schema.target, "__init__") if isinstance(schema.target, type) else schema.target  # noqa: B009
    try:
        names = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []
    return [one for one in schema.parameters if one.name in names]


@check(ANY, "misspelt-parameter", remedy="drop `**kwargs`, or say whose they are with `mscore_kwargs_of`", advice=True)
def misspelt_parameter(subject: ComponentSubject) -> None:
    """A misspelt parameter in a config is noticed: the constructor does not take anything whatever."""
    if subject.schema.target in (None, object):
        raise CheckSkipped("it has no constructor")
    require(not subject.schema.accepts_anything, "its constructor takes any keyword, so no mistake can be noticed")


@check(ANY, "builds", remedy="let the constructor accept its own defaults, or give a sample that it accepts")
def builds(subject: ComponentSubject) -> None:
    """It can be built from its defaults and the sample's arguments, as a run builds it."""
    if subject.kind in ("optimizer", "scheduler"):
        raise CheckSkipped("it is built with parameters to train, in the checks of its kind")
    subject.build()
