"""Types of constructor parameters: which are components, how pydantic checks them, how they are said.

Nothing is converted silently: ``"5"`` is no integer and ``true`` no number. What YAML cannot write in
another way is converted: a list to a tuple or set, text to a path, an enum member or a duration, and a
mapping or name to a component.
"""

import collections.abc
import dataclasses
import datetime
import enum
import inspect
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import annotated_types
from pydantic import PlainValidator, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from mscore.config.messages import a

_KINDS = {
    "mscore.contracts.policy.MinePolicy": "policy",
    "mscore.contracts.objective.ObjectiveCallback": "objective",
    "mscore.contracts.environment.Environment": "environment",
    "mscore.contracts.trainer.Trainer": "trainer",
    "lightning.pytorch.callbacks.callback.Callback": "callback",
    "lightning.pytorch.core.datamodule.LightningDataModule": "datamodule",
    "lightning.pytorch.loggers.logger.Logger": "logger",
}
"""Base class to kind, by name: comparing names imports none of them."""

COMPONENT_MARK = "x-mscore-kind"
"""Keyword of a JSON schema that says which kind of component a value is."""

_CONVERTED = (enum.Enum, pathlib.PurePath, datetime.timedelta, datetime.datetime, tuple, set, frozenset)
_ONE_PASS = (collections.abc.Iterable, collections.abc.Iterator, collections.abc.Collection)


@dataclasses.dataclass(frozen=True)
class Nested:
    """A parameter's value that stands for a component: a name, or a mapping with ``use``."""

    kind: str
    value: str | Mapping[str, Any]


def component_kind(annotation: Any) -> str | None:
    """The kind of component that a type is, or None."""
    for base in getattr(annotation, "__mro__", ()) if isinstance(annotation, type) else ():
        kind = _KINDS.get(f"{base.__module__}.{base.__qualname__}")
        if kind is not None:
            return kind
    return None


def checked_type(annotation: Any, *, text_allowed: bool = False) -> Any:
    """The type that pydantic checks in place of an annotation.

    Args:
        annotation: as resolved from the signature.
        text_allowed: the annotation is a member of a union with ``str``, so a bare name is just text.
    """
    kind = component_kind(annotation)
    if kind is not None:
        return _nested_type(kind, text_allowed)
    if annotation is inspect.Parameter.empty or isinstance(annotation, str | typing.ForwardRef):
        return Any
    if isinstance(annotation, TypeVar):
        return Any if annotation.__bound__ is None else checked_type(annotation.__bound__)
    if isinstance(annotation, type) and get_origin(annotation) is None:
        if issubclass(annotation, _CONVERTED):
            return Annotated[annotation, Strict(False)]
        return list[Any] if annotation in _ONE_PASS else annotation
    return _checked_generic(annotation)


def _checked_generic(annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return Annotated[(checked_type(arguments[0]), *arguments[1:])]
    if origin in (Union, types.UnionType):
        return Union[tuple(checked_type(one, text_allowed=str in arguments) for one in arguments)]  # noqa: UP007
    if origin in (None, Literal, type, collections.abc.Callable):
        return annotation
    inner = tuple(one if one is Ellipsis else checked_type(one) for one in arguments)
    if origin in _ONE_PASS:
        # pydantic would hand on an iterator that can be read once.
        return list[inner[0]]  # type: ignore[valid-type]
    if isinstance(origin, type) and issubclass(origin, _CONVERTED):
        return Annotated[origin[inner], Strict(False)]  # type: ignore[index]
    try:
        return origin[inner]
    except TypeError:
        return annotation


def _nested_type(kind: str, text_allowed: bool) -> Any:
    def check(value: Any) -> Nested:
        named = isinstance(value, str) and not text_allowed
        if named or (isinstance(value, Mapping) and "use" in value):
            return Nested(kind, value)
        raise PydanticCustomError("component", "expected {expected}", {"expected": _component_text(kind)})

    mapping = {"type": "object", "properties": {"use": {"type": "string"}}, "required": ["use"]}
    schema: dict[str, Any] = mapping if text_allowed else {"anyOf": [{"type": "string"}, mapping]}
    schema = {**schema, COMPONENT_MARK: kind}
    return Annotated[Any, PlainValidator(check), WithJsonSchema(schema)]


def _component_text(kind: str) -> str:
    return f"{a(kind)}'s name or a mapping with `use`"


def type_text(annotation: Any) -> str:
    """A type as ``mscore plugins show`` and messages say it."""
    if annotation is inspect.Parameter.empty or annotation is Any:
        return "anything"
    if annotation is None or annotation is type(None):
        return "null"
    kind = component_kind(annotation)
    if kind is not None:
        return kind
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = [text for one in arguments[1:] if (text := _limit_text(one))]
        return " ".join([type_text(arguments[0]), " and ".join(limits)]).strip()
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(type_text(one) for one in arguments))
    if origin is Literal:
        return " | ".join(repr(one) for one in arguments)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " | ".join(repr(member.value) for member in annotation)
    if origin is not None:
        name = getattr(origin, "__name__", str(origin))
        inner = ", ".join("..." if one is Ellipsis else _argument_text(one) for one in arguments)
        return f"{name}[{inner}]"
    return getattr(annotation, "__name__", str(annotation).removeprefix("typing."))


def _argument_text(argument: Any) -> str:
    return f"[{', '.join(map(type_text, argument))}]" if isinstance(argument, list) else type_text(argument)


def _limit_text(metadata: Any) -> str:
    """One constraint of annotated-types, short."""
    limits = metadata if isinstance(metadata, annotated_types.GroupedMetadata) else [metadata]
    texts = []
    for limit in limits:
        match limit:
            case annotated_types.Ge(ge=value):
                texts.append(f">= {value}")
            case annotated_types.Gt(gt=value):
                texts.append(f"> {value}")
            case annotated_types.Le(le=value):
                texts.append(f"<= {value}")
            case annotated_types.Lt(lt=value):
                texts.append(f"< {value}")
            case annotated_types.MinLen(min_length=value) if value:
                texts.append(f"of at least {value}")
            case annotated_types.MaxLen(max_length=value):
                texts.append(f"of at most {value}")
            case annotated_types.MultipleOf(multiple_of=value):
                texts.append(f"a multiple of {value}")
            case _:
                pass
    return " and ".join(texts)
