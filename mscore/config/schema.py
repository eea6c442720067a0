"""The schema of a component: what a config may say about it, made from its constructor."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property, lru_cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, SchemaError, core_schema

from mscore.config.annotations import checked_type, component_kind, type_text
from mscore.config.messages import child, found
from mscore.config.signatures import MISSING, Parameter, signature_of

INJECTED = frozenset({"observation_space", "action_space", "environment_factory", "run"})
"""Parameters that the core supplies to any constructor that names them."""

OUTPUT_FOLDERS = frozenset({"dirpath", "save_dir"})
"""Parameters of callbacks and loggers that say where they write; a run's directory unless a config says."""

HIDDEN_ATTRIBUTE = "mscore_hidden_parameters"
"""A component's attribute: names of parameters that a config cannot set."""

_TYPES = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "list_type": "a list",
    "mapping_type": "a mapping",
    "none_required": "null",
    "path_type": "a path",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "string_type": "text",
    "time_delta_parsing": "a duration such as 00:30:00",
    "time_delta_type": "a duration such as 00:30:00",
    "tuple_type": "a list",
}
_LIMITS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "finite",
    "too_short": "at least {min_length} long",
    "too_long": "at most {max_length} long",
    "string_too_short": "at least {min_length} characters long",
    "string_too_long": "at most {max_length} characters long",
}
_PYTHON_ONLY = {"callable_type", "dataclass_exact_type", "is_instance_of", "is_subclass_of", "is_type"}
_UNCHECKABLE = (PydanticUserError, SchemaError, TypeError, NameError, RuntimeError)
"""What pydantic raises for an annotation that it cannot make a schema from."""


@dataclass(frozen=True)
class Schema:
    """What a config may say about a component.

    Attributes:
        target: the class or factory.
        parameters: those that a config may set.
        supplied: those that the core supplies (spaces, the optimizer's parameters, …).
        hidden: those that neither a config nor the core sets.
        accepts_anything: further names are passed on unchecked.
    """

    target: Any
    parameters: tuple[Parameter, ...]
    supplied: tuple[Parameter, ...]
    hidden: frozenset[str]
    accepts_anything: bool

    @property
    def names(self) -> list[str]:
        """Names of the parameters that a config may set."""
        return [parameter.name for parameter in self.parameters]

    @cached_property
    def model(self) -> type[BaseModel]:
        """The pydantic model that checks the parameters."""
        try:
            return _model(self.target, self.parameters, frozenset())
        except _UNCHECKABLE:
            # Some annotation is none that pydantic can check: that parameter alone goes unchecked.
            bad = frozenset(one.name for one in self.parameters if not _checkable(self.target, one))
            return _model(self.target, self.parameters, bad)

    def convert(self, values: Mapping[str, Any], path: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Check values by type and range.

        Args:
            values: parameters by name, all of them known.
            path: dotted path of the component, for the problems.

        Returns:
            The values that are right, converted where YAML cannot write their type, and the problems as
            (dotted path, text).
        """
        try:
            checked = self.model.model_validate(dict(values))
        except ValidationError as error:
            problems = _problems(error.errors(include_url=False), values, path)
            wrong = {details["loc"][0] for details in error.errors(include_url=False)}
            right, _ = self.convert({key: values[key] for key in values if key not in wrong}, path)
            return right, problems
        names = {alias: field for field, alias in self._fields.items()}
        return {name: getattr(checked, names[name]) if name in names else values[name] for name in values}, []

    def json_schema(self) -> dict[str, Any]:
        """JSON schema of the parameters, for editors."""
        schema = self.model.model_json_schema(schema_generator=_JsonSchema)
        schema["properties"] = schema.get("properties", {})
        for parameter in self.parameters:
            entry = schema["properties"][parameter.name]
            entry.pop("title", None)
            entry.pop("default", None)
            if parameter.doc:
                entry["description"] = parameter.doc
            if _is_plain(parameter.default):
                entry["default"] = parameter.default
        required = [parameter.name for parameter in self.parameters if parameter.required]
        schema |= {"title": self.model.__name__, "additionalProperties": self.accepts_anything}
        schema.pop("required", None)
        return {**schema, "required": required} if required else schema

    @cached_property
    def _fields(self) -> dict[str, str]:
        return {name: str(info.alias) for name, info in self.model.model_fields.items()}


@lru_cache(maxsize=512)
def component_schema(target: Any, kind: str | None = None) -> Schema:
    """The schema of a component's class or factory.

    Args:
        target: what the component's import string names.
        kind: its kind. The first parameter of an optimizer or scheduler is supplied, and so is
            ``render_mode`` of an environment that is a plain callable.

    Raises:
        TypeError: if ``target`` is neither a class nor a function.
    """
    signature = signature_of(target)
    parameters = list(signature.parameters.values())
    supplied = set(INJECTED)
    if kind in ("optimizer", "scheduler"):
        supplied |= {parameter.name for parameter in parameters[:1]}
    if kind == "environment" and component_kind(target) is None:
        supplied.add("render_mode")
    hidden = frozenset(getattr(target, HIDDEN_ATTRIBUTE, ()))
    return Schema(
        target=target,
        parameters=tuple(
            replace(one, required=False) if kind in ("callback", "logger") and one.name in OUTPUT_FOLDERS else one
            for one in parameters
            if one.name not in supplied | hidden
        ),
        supplied=tuple(one for one in parameters if one.name in supplied),
        hidden=hidden,
        accepts_anything=signature.accepts_anything,
    )


def parameter_type(parameter: Parameter) -> str:
    """A parameter's type as messages and listings say it."""
    return type_text(parameter.annotation)


def default_text(parameter: Parameter) -> str:
    """A parameter's default as a config would write it; ``""`` if it has none."""
    if parameter.default is MISSING:
        return ""
    if parameter.default is None:
        return "null"
    if isinstance(parameter.default, bool):
        return str(parameter.default).lower()
    if isinstance(parameter.default, Enum):
        return repr(parameter.default.value)
    return repr(parameter.default) if _is_plain(parameter.default) else str(parameter.default)


def _model(target: Any, parameters: tuple[Parameter, ...], unchecked: frozenset[str]) -> type[BaseModel]:
    # Fields have neutral names: a parameter may be called `copy` or `model_config`.
    fields: dict[str, Any] = {}
    for index, parameter in enumerate(parameters):
        annotation = Any if parameter.name in unchecked else checked_type(parameter.annotation)
        fields[f"parameter_{index}"] = (annotation, Field(default=None, alias=parameter.name))
    config = ConfigDict(strict=True, arbitrary_types_allowed=True, extra="ignore", protected_namespaces=())
    name = getattr(target, "__name__", type(target).__name__)
    with warnings.catch_warnings():
        # An annotation that is no type is accepted unchecked; that is the plugin author's affair. Which class
        # the warning has depends on pydantic's version.
        warnings.filterwarnings("ignore", message=".* is not a Python type")
        model: type[BaseModel] = create_model(name, __config__=config, **fields)
    return model


def _checkable(target: Any, parameter: Parameter) -> bool:
    try:
        _model(target, (parameter,), frozenset())
    except _UNCHECKABLE:
        return False
    return True


def _problems(errors: list[ErrorDetails], values: Mapping[str, Any], path: str) -> list[tuple[str, str]]:
    """One problem for each value that is wrong; a union reports each of its members, they are joined."""
    by_path: dict[str, tuple[Any, list[ErrorDetails]]] = {}
    for error in errors:
        where, value = path, values
        for step in error["loc"]:
            inner = _item(value, step)
            if inner is MISSING:
                break
            where, value = child(where, step), inner
        by_path.setdefault(where, (value, []))[1].append(error)
    return [(where, _text(value, group)) for where, (value, group) in by_path.items()]


def _item(value: Any, step: int | str) -> Any:
    if isinstance(value, Mapping):
        return value.get(step, MISSING)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return MISSING


def _text(value: Any, errors: list[ErrorDetails]) -> str:
    expected: list[str] = []
    limits: list[str] = []
    python_only: list[str] = []
    for error in errors:
        kind, context = error["type"], error.get("ctx", {})
        if kind in _PYTHON_ONLY:
            python_only.append(str(context.get("class") or context.get("class_name") or "a function"))
        elif kind in _LIMITS:
            limits.append(_LIMITS[kind].format(**context))
        elif kind in ("literal_error", "enum"):
            expected.append(f"one of {context['expected']}")
        else:
            expected.append(_TYPES.get(kind) or str(context.get("expected") or error["msg"]))
    expected, limits = list(dict.fromkeys(expected)), list(dict.fromkeys(limits))
    if limits and expected:
        return f"found {found(value)}, expected {' or '.join(expected)}, or a value of {' and '.join(limits)}"
    if limits:
        return f"found {found(value)}, must be {' and '.join(limits)}"
    if expected:
        return f"found {found(value)}, expected {' or '.join(expected)}"
    kinds = " or ".join(python_only)
    return f"found {found(value)}, but this takes a Python object ({kinds}): it cannot be set in a config"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)


class _JsonSchema(GenerateJsonSchema):
    """Types that no YAML can hold are left open."""

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}
