"""Interpolation: ``${section.key}`` and OmegaConf's resolvers, resolved in one go, each failure named."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mscore.config.merging import Report, Tree
from mscore.config.messages import child
from mscore.errors import did_you_mean

_KEY = re.compile(r"Interpolation key '(.*?)' not found")
_VARIABLE = re.compile(r"Environment variable '(.*?)' not found")


def resolve(tree: Tree, report: Report) -> Tree:
    """The tree with every ``${…}`` replaced; what does not resolve is reported and becomes None.

    ``???`` (OmegaConf's mark of a value that must be given) is reported as well.
    """
    bad: set[str] = set()
    texts = [(path, value) for path, value in _leaves(tree) if isinstance(value, str)]
    for path, text in texts:
        if text == "???":
            bad.add(path)
            report(path, "must be given, it has no value (???)")
    if any("${" in text for _, text in texts):
        # Imported here: OmegaConf costs half of what reading a config takes, and few configs interpolate.
        return _interpolate(tree, texts, bad, report)
    return _without(tree, bad, "") if bad else tree


def _interpolate(tree: Tree, texts: list[tuple[str, str]], bad: set[str], report: Report) -> Tree:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for path, text in texts:
        if "${" in text:
            try:
                OmegaConf.create({"value": text})
            except OmegaConfBaseException as error:
                bad.add(path)
                report(path, f"interpolation {text} cannot be read: {str(error).splitlines()[0]}")
    known = [path for path, _ in _nodes(tree)]
    config = OmegaConf.create(_without(tree, bad, ""))

    def visit(container: Any, plain: Any, path: str) -> Any:
        if isinstance(plain, dict):
            return {key: item(container, key, value, child(path, str(key))) for key, value in plain.items()}
        return [item(container, index, value, child(path, index)) for index, value in enumerate(plain)]

    def item(container: Any, key: Any, plain: Any, path: str) -> Any:
        if isinstance(plain, dict | list):
            return visit(container[key], plain, path)
        if path in bad or not isinstance(plain, str) or "${" not in plain:
            return None if path in bad else plain
        try:
            value = container[key]
            return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except (OmegaConfBaseException, RecursionError) as error:
            report(
                path,
                f"interpolation {plain} does not resolve: {_reason(error, [one for one in known if one != path])}",
            )
            return None

    result = visit(config, tree, "")
    assert isinstance(result, dict)
    return result


def _reason(error: Exception, known: list[str]) -> str:
    if isinstance(error, RecursionError):
        return "it refers to itself"
    first = str(error).splitlines()[0]
    if match := _KEY.search(first):
        return f"there is no {match[1]!r} in the config.{did_you_mean(match[1], known)}"
    if match := _VARIABLE.search(first):
        return f"the environment variable {match[1]!r} is not set"
    if "Recursive interpolation" in first:
        return "it refers to itself"
    return first


def _nodes(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if path:
        yield path, value
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _nodes(item, child(path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nodes(item, child(path, index))


def _leaves(tree: Tree) -> Iterator[tuple[str, Any]]:
    return ((path, value) for path, value in _nodes(tree) if not isinstance(value, Mapping | list))


def _without(value: Any, bad: set[str], path: str) -> Any:
    if path in bad:
        return None
    if isinstance(value, Mapping):
        return {key: _without(item, bad, child(path, str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, bad, child(path, index)) for index, item in enumerate(value)]
    return value
