"""The YAML that a config may hold: plain values only, each with the line where it stands.

PyYAML's safe loader, with what OmegaConf's users know: ``1e-5`` is a number, dates stay text. Tags,
duplicate keys and keys that are no plain text are refused. Sexagesimal numbers (``1:30``) stay text.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from mscore.config.messages import child
from mscore.errors import ConfigError

_CORE = "tag:yaml.org,2002:"
_PLAIN = {_CORE + name for name in ("null", "bool", "int", "float", "str", "map", "seq")}
_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
    |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)
    |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_INT = re.compile(r"^(?:[-+]?0b[0-1_]+|[-+]?0x[0-9a-fA-F_]+|[-+]?(?:0|[1-9][0-9_]*))$")
_REMEDIES = {
    "cannot start any token": "a tab or a reserved character; indent with spaces, and quote the text",
    "mapping values are not allowed here": "check the indentation, and quote text that contains ': '",
}


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    replaced = {_CORE + name for name in ("float", "int", "timestamp", "value")}
    resolvers = {
        first: [pair for pair in pairs if pair[0] not in replaced]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for tag, pattern, firsts in (
        (_CORE + "float", _FLOAT, "-+0123456789."),
        (_CORE + "int", _INT, "-+0123456789"),
    ):
        for first in firsts:
            resolvers.setdefault(first, []).append((tag, pattern))
    return resolvers


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()


class _Dumper(yaml.SafeDumper):
    # The same resolvers, so that text which would be read as a number is quoted.
    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(value: Any) -> str:
    """Plain values as YAML, keys in their order."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


@dataclass
class Document:
    """A YAML text's value, and the place of each value in it by dotted path."""

    value: Any
    places: dict[str, str] = field(default_factory=dict)


def parse(text: str, name: str, path: str = "", *, numbered: bool = True) -> Document:
    """Read one YAML document.

    Args:
        text: the YAML.
        name: what to call it in messages and places.
        path: dotted path under which the value lies.
        numbered: add line numbers to the places (an override has none).

    Raises:
        ConfigError: for a syntax error, a tag, a duplicate key or a key that is no plain value.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        reader = _Reader(loader, name, numbered)
        value = None if node is None else reader.read(node, path)
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax(error, name, numbered)]) from None
    except yaml.YAMLError as error:
        raise ConfigError([f"{name}: not YAML: {' '.join(str(error).split())}"]) from None
    finally:
        loader.dispose()
    if reader.problems:
        raise ConfigError(reader.problems)
    return Document(value, reader.places)


def _syntax(error: yaml.MarkedYAMLError, name: str, numbered: bool) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{name}:{mark.line + 1}" if mark is not None and numbered else name
    problem = error.problem or error.context or "cannot be read"
    remedy = next((text for part, text in _REMEDIES.items() if part in problem), None)
    column = f" (column {mark.column + 1})" if mark is not None else ""
    return f"{where}: not YAML: {problem}{column}" + (f"; {remedy}" if remedy else "")


class _Reader:
    """Turns nodes into values, noting places and problems."""

    def __init__(self, loader: _Loader, name: str, numbered: bool) -> None:
        self.loader = loader
        self.name = name
        self.numbered = numbered
        self.places: dict[str, str] = {}
        self.problems: list[str] = []
        self._open: list[yaml.Node] = []
        self._checked: set[int] = set()

    def read(self, node: yaml.Node, path: str) -> Any:
        if any(node is one for one in self._open):
            self._problem(node, path, "an alias that contains itself")
            return None
        self._open.append(node)
        try:
            if path:
                self.places.setdefault(path, self._place(node))
            if node.tag not in _PLAIN:
                tag = node.tag.replace(_CORE, "!!")
                self._problem(node, path, f"the tag {tag} is refused: a config holds plain values only")
                return None
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.read(item, child(path, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[Any, Any]:
        self._check_duplicates(node, path)
        self.loader.flatten_mapping(node)
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _PLAIN - {_CORE + "null"}:
                self._problem(key_node, path, "a key must be plain text or a number")
                continue
            key = self._scalar(key_node, path)
            where = child(path, str(key))
            value = self.read(value_node, where)
            self.places[where] = self._place(key_node)
            result[key] = value
        return result

    def _check_duplicates(self, node: yaml.MappingNode, path: str) -> None:
        # Once per node: merging `<<` rewrites it, and an aliased node is read again.
        if id(node) in self._checked:
            return
        self._checked.add(id(node))
        first: dict[str, yaml.Node] = {}
        for key_node, _ in node.value:
            earlier = first.setdefault(str(key_node.value), key_node)
            if earlier is not key_node:
                line = f", first on line {earlier.start_mark.line + 1}" if self.numbered else ""
                self._problem(key_node, child(path, key_node.value), f"is written twice{line}")

    def _scalar(self, node: yaml.Node, path: str) -> Any:
        try:
            return self.loader.construct_object(node, deep=True)
        except ValueError as error:
            self._problem(node, path, f"{node.value!r} does not fit its tag: {error}")
            return None

    def _place(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}" if self.numbered else self.name

    def _problem(self, node: yaml.Node, path: str, text: str) -> None:
        self.problems.append(f"{self._place(node)}: {path}: {text}" if path else f"{self._place(node)}: {text}")
