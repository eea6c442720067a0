"""Laying one config over another: included files, stages and overrides follow the same rules.

Mappings are merged, everything else is replaced. Where a component is expected, a bare name is short
for ``{use: name}``, and naming another component starts afresh: the parameters of the one before go
with it. In plural sections ``null`` removes a label.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mscore.config import dialect
from mscore.config.messages import Origins, child, found
from mscore.errors import ConfigError, did_you_mean

SINGULAR = {
    "policy": "policy",
    "data": "datamodule",
    "optimizer": "optimizer",
    "scheduler": "scheduler",
    "trainer": "trainer",
    "environment": "environment",
}
"""Section with one component, and the component's kind."""

PLURAL = {"objectives": "objective", "callbacks": "callback", "loggers": "logger"}
"""Section with labelled components, and the components' kind."""

DEFAULTS: dict[str, Any] = {
    "optimizer": {"use": "adamw"},
    "scheduler": {"use": "linear-warmup"},
    "trainer": {"use": "offline"},
    "loggers": {"csv": {}},
}
"""What lies under every config."""

Tree = dict[str, Any]
Report = Callable[[str, str], None]
"""Takes a dotted path and what is wrong with it."""

_STEP = re.compile(r"\.?([^.\[\]=]+)|\[(\d+)\]")


def merge_config(base: Tree, over: Mapping[str, Any], report: Report) -> Tree:
    """Lay ``over`` over ``base``; neither is changed."""
    result = dict(base)
    for section, value in over.items():
        if section in SINGULAR:
            result[section] = _merge_component(base.get(section), value, implied=None)
        elif section in PLURAL:
            result[section] = _merge_labels(base.get(section), value, str(section), report)
        else:
            result[section] = merge_values(base.get(section), value)
    return result


def merge_values(base: Any, over: Any) -> Any:
    """Merge mappings deeply; anything else is replaced."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    result = dict(base)
    for key, value in over.items():
        result[key] = merge_values(base.get(key), value)
    return result


def _merge_component(base: Any, over: Any, implied: str | None) -> Any:
    over = {"use": over} if isinstance(over, str) else over
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    if "use" in over and over["use"] != base.get("use", implied):
        return over
    return merge_values(base, over)


def _merge_labels(base: Any, over: Any, section: str, report: Report) -> Any:
    if over is None:
        return dict.fromkeys(base) if isinstance(base, Mapping) else {}
    if not isinstance(over, Mapping):
        return over
    result = dict(base) if isinstance(base, Mapping) else {}
    for label, value in over.items():
        if value is None and label not in result:
            present = [str(one) for one, component in result.items() if component is not None]
            report(
                child(section, str(label)),
                f"null removes a component, and none has this label (there are: {', '.join(present) or 'none'})."
                f"{did_you_mean(label, present)} To add one with its defaults write {label}: {{}}",
            )
        if label in result and result[label] is None:
            # Removed below and added again here: it comes last, as any label that is added.
            del result[label]
        result[label] = _merge_component(result.get(label), value, implied=label)
    return result


def apply_overrides(tree: Tree, overrides: list[str], places: dict[str, str], problems: list[str]) -> Tree:
    """Lay ``a.b=value`` overrides over a config; the later one wins, within a component the more specific one.

    Args:
        tree: the config.
        overrides: as written on the command line; values are YAML.
        places: gets the place of each overridden value.
        problems: gets one line for each override that cannot be used.
    """
    parsed = []
    for text in overrides:
        try:
            parsed.append(_parse_override(text))
        except ConfigError as error:
            problems += error.problems
    # Within one component shorter keys come first, and `use` before its parameters: policy.hiddim=64
    # holds whatever order it came in. Components stay in the order of the command line.
    groups: dict[tuple[str | int, ...], int] = {}
    parsed.sort(
        key=lambda item: (
            groups.setdefault(_component_steps(item[1]), len(groups)),
            len(item[1]),
            item[1][-1] != "use",
        )
    )
    for text, steps, document in parsed:
        places.update(document.places)
        origins = Origins(places, f"override {text}")

        def report(path: str, problem: str, origins: Origins = origins) -> None:
            problems.append(origins.line(path, problem))

        try:
            tree = _assign(tree, steps, document.value, report)
        except LookupError as error:
            problems.append(f"override {text}: {error.args[0]}")
    return tree


def _component_steps(steps: list[str | int]) -> tuple[str | int, ...]:
    """The part of a path that leads to a component (or to a setting)."""
    start = 2 if steps[0] == "stages" else 0
    return tuple(steps[: start + (2 if steps[start : start + 1] and steps[start] in PLURAL else 1)])


def _parse_override(text: str) -> tuple[str, list[str | int], dialect.Document]:
    place = f"override {text}"
    key, equals, value = text.partition("=")
    if key.startswith(("+", "~", "-")):
        bare = key.lstrip("+~-")
        hint = f"{bare}={value}" if equals else f"{bare}=null"
        raise ConfigError([f"{place}: needs no prefix; write {hint}"])
    if not equals:
        raise ConfigError([f"{place}: expected key=value, such as trainer.max_steps=100"])
    if not value.strip():
        raise ConfigError([f"{place}: has no value; write {key}=null for none, {key}='\"\"' for empty text"])
    steps: list[str | int] = []
    position = 0
    while match := _STEP.match(key, position):
        steps.append(match[1] if match[1] is not None else int(match[2]))
        position = match.end()
    if position != len(key) or not steps or isinstance(steps[0], int):
        raise ConfigError([f"{place}: {key!r} is no dotted path, such as objectives.bc.weight or stages[0].name"])
    if steps[0] == "defaults":
        raise ConfigError([f"{place}: defaults can be written in files only"])
    path = ""
    for step in steps:
        path = child(path, step)
    document = dialect.parse(value, place, path, numbered=False)
    return text, steps, document


def _assign(tree: Tree, steps: list[str | int], value: Any, report: Report) -> Tree:
    """Lay one value over a config at a path."""
    if len(steps) > 2 and steps[0] == "stages" and isinstance(steps[1], int):
        stages = _list_with(tree, ["stages"], steps[1])
        # A stage's null refers to the common part: whether there is something to remove is seen later.
        stages[steps[1]] = _assign(_mapping(stages[steps[1]]), steps[2:], value, lambda path, text: None)
        return {**tree, "stages": stages}
    for at, index in enumerate(steps):
        if isinstance(index, int):
            items = _list_with(tree, steps[:at], index)
            items[index] = _assign_value(items[index], steps[at + 1 :], value)
            steps, value = steps[:at], items
            break
    tree = _opened(tree, steps[:-1])
    layer = value
    for step in reversed(steps):
        layer = {step: layer}
    return merge_config(tree, layer, report)


def _assign_value(current: Any, steps: list[str | int], value: Any) -> Any:
    """Lay one value over a plain value (an item of a list)."""
    if not steps:
        return merge_values(current, value)
    if isinstance(steps[0], int):
        items = _list_with({"list": current}, ["list"], steps[0])
        items[steps[0]] = _assign_value(items[steps[0]], steps[1:], value)
        return items
    current = _mapping(current)
    return {**current, steps[0]: _assign_value(current.get(steps[0]), steps[1:], value)}


def _list_with(tree: Any, steps: Sequence[str | int], index: int) -> list[Any]:
    """A copy of the list at a path, which has to have the index."""
    value, path = tree, ""
    for step in steps:
        path = child(path, step)
        value = value.get(step) if isinstance(value, Mapping) else None
    if not isinstance(value, list):
        raise LookupError(f"{path} is {found(value)}, not a list")
    if index >= len(value):
        raise LookupError(f"{path} has {len(value)} items, there is no [{index}]")
    return list(value)


def _opened(tree: Tree, steps: list[str | int]) -> Tree:
    """The tree with bare component names on the way written as ``{use: name}``, so that they can be extended."""
    if not steps:
        return tree
    head, *rest = steps
    inner = tree.get(str(head))
    if isinstance(inner, str | Mapping):
        return {**tree, str(head): _opened(_mapping(inner), rest)}
    return tree


def _mapping(value: Any) -> Tree:
    if isinstance(value, str):
        return {"use": value}
    return dict(value) if isinstance(value, Mapping) else {}
