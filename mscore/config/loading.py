"""Pass one: a source and overrides to a :class:`RunConfig`, each stage a config of its own."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mscore.config.grammar import Grammar
from mscore.config.merging import PLURAL, Tree, apply_overrides, merge_config
from mscore.config.messages import Origins, child, found
from mscore.config.model import RunConfig, Stage
from mscore.config.sources import Draft, read_source
from mscore.errors import ConfigError

if TYPE_CHECKING:
    from mscore.plugins import PluginSet


def load_config(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    plugins: "PluginSet | None" = None,
) -> RunConfig:
    """Read a config and check its names and shape.

    Args:
        source: a YAML file, a recipe's name, or a mapping.
        overrides: ``dotted.path=value`` each, as on the command line.
        plugins: where components are looked up; None means the installed ones.

    Raises:
        ConfigError: with every mistake, one line each.
    """
    draft = read_source(source, plugins)
    problems = draft.problems
    tree = apply_overrides(draft.tree, list(overrides), draft.places, problems)
    partials = tree.pop("stages", None) or []
    common = Grammar(tree, Origins(draft.places, draft.source), plugins, bool(partials))
    config = common.read(draft.name)
    problems += common.problems
    stages = _read_stages(partials, tree, draft, plugins, problems)
    # A mistake in the common part is found again in each stage, and said once.
    problems = list(dict.fromkeys(problems))
    if problems:
        raise ConfigError(problems)
    if stages:
        config = _with_stages(config, stages)
    assert config is not None
    return config


def _read_stages(
    partials: Any, common: Tree, draft: Draft, plugins: "PluginSet | None", problems: list[str]
) -> list[Stage]:
    top = Origins(draft.places, draft.source)
    if not isinstance(partials, list):
        problems.append(top.line("stages", f"found {found(partials)}, expected a list of partial configs"))
        return []
    stages: list[Stage] = []
    for index, partial in enumerate(partials):
        path = child("stages", index)
        if not isinstance(partial, Mapping):
            problems.append(top.line(path, f"found {found(partial)}, expected sections that differ"))
            continue
        origins = Origins(draft.places, draft.source, index)
        lines: list[str] = []
        for key in ("stages", "defaults"):
            if key in partial:
                lines.append(origins.line(key, "a stage has no stages or defaults of its own"))
        own = {key: value for key, value in partial.items() if key not in ("stages", "defaults")}
        tree = merge_config(
            {key: value for key, value in common.items() if key != "name"},
            own,
            lambda path, text, origins=origins, lines=lines: lines.append(origins.line(path, text)),  # type: ignore[misc]
        )
        grammar = Grammar(tree, origins, plugins, staged=False, first=index == 0)
        config = grammar.read(f"stage{index + 1}")
        problems += lines + grammar.problems
        if config is None:
            continue
        if config.name in [stage.name for stage in stages]:
            problems.append(origins.line("name", f"{config.name!r} is the name of an earlier stage"))
        stages.append(Stage(config.name, config))
    return stages


def _with_stages(config: RunConfig | None, stages: list[Stage]) -> RunConfig:
    """The common part with its stages; what only stages name (such as the policy) is the first stage's."""
    assert config is not None
    resolved = dict(config.resolved)
    resolved["stages"] = [_partial(stage.resolved, config.resolved) for stage in stages]
    if "policy" not in resolved:
        config = dataclasses.replace(config, policy=stages[0].config.policy)
    return dataclasses.replace(config, stages=tuple(stages), resolved=resolved)


def _partial(stage: Tree, common: Tree) -> Tree:
    """A stage's config with an explicit null for what it removes, so that laying it over gives it again."""
    result = dict(stage)
    for section, value in common.items():
        if section in PLURAL:
            removed = [label for label in value if label not in stage.get(section, {})]
            result[section] = {**stage.get(section, {}), **dict.fromkeys(removed)}
        elif section not in stage:
            result[section] = None
    return result
