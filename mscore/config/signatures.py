"""What a constructor takes: names, types, defaults and their documentation.

``**kwargs`` are followed to where they go: for a class to the next ``__init__`` along its method
resolution order; for anything else to what ``mscore_kwargs_of`` names (an import string).
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

MISSING: Any = inspect.Parameter.empty
KWARGS_ATTRIBUTE = "mscore_kwargs_of"

_SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Keyword Args):\s*$")
_ENTRY = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\)+)?\s*:\s*(.*)$")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a constructor."""

    name: str
    annotation: Any
    default: Any = MISSING
    doc: str = ""
    required: bool = False
    by_position: bool = False
    """True if the constructor does not take it by name."""


@dataclass
class Signature:
    """A constructor's parameters by name, those of the receivers of its ``**kwargs`` included."""

    parameters: dict[str, Parameter] = field(default_factory=dict)
    accepts_anything: bool = False
    """True if it takes further names and nobody knows which."""


def signature_of(target: Any) -> Signature:
    """What a class or another callable takes.

    Raises:
        TypeError: if ``target`` cannot be called.
    """
    if not callable(target):
        raise TypeError(f"{target!r} is neither a class nor a function")
    if not isinstance(target, type):
        return _follow(_own(target, inspect.getdoc(target)), getattr(target, KWARGS_ATTRIBUTE, None))
    result = Signature()
    owners = [cls for cls in target.__mro__ if cls is not object and "__init__" in vars(cls)]
    for owner in owners:
        own = _own(vars(owner)["__init__"], inspect.getdoc(owner), owner)
        _add(result, own, by_kwargs=owner is not owners[0])
        result.accepts_anything = own.accepts_anything
        if not own.accepts_anything:
            break
        declared = _declared(target, owner)
        if declared is not None:
            return _follow(result, declared)
    return result


def _declared(target: type, owner: type) -> str | None:
    """Whom the ``**kwargs`` of ``owner.__init__`` go to, as the class or one derived from it says."""
    for cls in target.__mro__[: target.__mro__.index(owner) + 1]:
        if KWARGS_ATTRIBUTE in vars(cls):
            return str(vars(cls)[KWARGS_ATTRIBUTE])
    return None


def _follow(signature: Signature, receiver: str | None) -> Signature:
    if not signature.accepts_anything or receiver is None:
        return signature
    module, _, attributes = receiver.partition(":")
    value: Any = import_module(module)
    for attribute in attributes.split("."):
        value = getattr(value, attribute)
    further = signature_of(value)
    _add(signature, further, by_kwargs=True)
    signature.accepts_anything = further.accepts_anything
    return signature


def _add(signature: Signature, further: Signature, *, by_kwargs: bool) -> None:
    for name, parameter in further.parameters.items():
        if name in signature.parameters or (by_kwargs and parameter.by_position):
            continue
        # Whoever hands on `**kwargs` may give what has no default itself: not required here.
        required = parameter.required and not by_kwargs
        signature.parameters[name] = dataclasses.replace(parameter, required=required)


def _own(function: Callable[..., Any], class_doc: str | None, owner: type | None = None) -> Signature:
    """The parameters that a function states, without following ``**kwargs``."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return Signature(accepts_anything=True)
    if owner is not None:
        parameters = parameters[1:]
    hints = _hints(function, owner)
    docs = {**parameter_docs(class_doc), **parameter_docs(inspect.getdoc(function))}
    result = Signature()
    for one in parameters:
        if one.kind is one.VAR_KEYWORD:
            result.accepts_anything = True
        elif one.kind is not one.VAR_POSITIONAL:
            result.parameters[one.name] = Parameter(
                name=one.name,
                annotation=hints.get(one.name, one.annotation),
                default=one.default,
                doc=docs.get(one.name, ""),
                required=one.default is MISSING,
                by_position=one.kind is one.POSITIONAL_ONLY,
            )
    return result


def _hints(function: Callable[..., Any], owner: type | None) -> dict[str, Any]:
    """Annotations, resolved where they can be; one that cannot (its module is not there) is Any."""
    function = inspect.unwrap(function)
    if owner is not None and dataclasses.is_dataclass(owner) and "__dataclass_fields__" in vars(owner):
        holder: Any = owner
    else:
        holder = function if hasattr(function, "__annotations__") else getattr(function, "__call__", function)  # noqa: B004
    try:
        return typing.get_type_hints(holder, include_extras=True)
    except Exception:  # an annotation is code: evaluating it can raise anything
        pass
    names = getattr(inspect.unwrap(function), "__globals__", {})
    resolved: dict[str, Any] = {}
    for name, annotation in getattr(holder, "__annotations__", {}).items():
        one = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            resolved |= typing.get_type_hints(one, globalns=names, include_extras=True)
        except Exception:  # as above; this one alone is then unchecked
            resolved[name] = Any
    return resolved


def parameter_docs(docstring: str | None) -> dict[str, str]:
    """Parameter name to text, from the ``Args:`` section of a docstring."""
    docs: dict[str, list[str]] = {}
    lines = inspect.cleandoc(docstring or "").splitlines()
    start = next((index for index, line in enumerate(lines) if _SECTION.match(line)), None)
    if start is None:
        return {}
    margin = len(lines[start]) - len(lines[start].lstrip())
    step = 0
    current: list[str] = []
    for line in lines[start + 1 :]:
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent <= margin:
            break
        step = step or indent
        match = _ENTRY.match(line.strip()) if indent == step else None
        if match:
            current = docs.setdefault(match[1], [])
            current.append(match[2])
        elif line.strip():
            current.append(line.strip())
    return {name: " ".join(parts).strip() for name, parts in docs.items()}
