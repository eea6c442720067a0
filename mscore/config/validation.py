"""Pass two: parameters against constructors, and components against one another.

Only the components that the config names are imported.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mscore.config.arguments import checked_arguments, component_of, nested_selections, schema_of
from mscore.config.merging import DEFAULTS, PLURAL
from mscore.config.model import RunConfig, Selection
from mscore.errors import ConfigError, PluginError

if TYPE_CHECKING:
    from mscore.plugins import PluginSet

_CHOOSABLE = ("data", "objectives", "callbacks", "optimizer", "scheduler")
"""Sections that a trainer may have no use for."""


def check_parameters(config: RunConfig, plugins: "PluginSet | None" = None) -> None:
    """Hold every parameter against its component's constructor, nothing built.

    Args:
        config: from :func:`mscore.config.load_config`; with stages, each of them is checked.
        plugins: where components are looked up; None means the installed ones.

    Raises:
        ConfigError: with every mistake, one line each.
    """
    problems: list[str] = []
    for run in [stage.config for stage in config.stages] or [config]:
        problems += _Checker(run, plugins).problems()
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def all_selections(config: RunConfig, plugins: "PluginSet | None" = None) -> list[Selection]:
    """Every component that a config uses: nested ones and those of its stages included.

    For a config that :func:`check_parameters` finds right; it imports the components.
    """
    found: list[Selection] = []
    for run in [stage.config for stage in config.stages] or [config]:
        checker = _Checker(run, plugins)
        checker.problems()
        found += [selection for selection in checker.seen if selection not in found]
    return found


class _Checker:
    """Checks one run's config."""

    def __init__(self, config: RunConfig, plugins: "PluginSet | None") -> None:
        self.config = config
        self.plugins = plugins
        self.lines: list[str] = []
        self.targets: dict[str, Any] = {}
        self.seen: list[Selection] = []

    def problems(self) -> list[str]:
        for selection in self.config.selections():
            self._check(selection)
        self._check_trainer()
        self._check_latents()
        return self.lines

    def _report(self, path: str, text: str, written_at: str | None = None) -> None:
        self.lines.append(self.config.origins.line(path, text, written_at=written_at))

    def _check(self, selection: Selection) -> None:
        self.seen.append(selection)
        try:
            target = component_of(selection, self.plugins).load()
            schema = schema_of(selection, target)
        except (PluginError, TypeError, ImportError) as error:
            self._report(selection.path, " ".join(str(error).split()))
            return
        self.targets[selection.path] = target
        arguments = checked_arguments(selection, schema, self.plugins, self._report)
        for nested in nested_selections(arguments):
            self._check(nested)

    def _check_trainer(self) -> None:
        trainer = self.targets.get("trainer")
        honoured = getattr(trainer, "sections", None)
        if not isinstance(honoured, frozenset | set):
            return
        name = self.config.trainer.use
        for section in _CHOOSABLE:
            if section not in honoured and self._is_named(section):
                others = ", ".join(sorted(honoured)) or "no optional section"
                self._report(section, f"trainer {name!r} has no use for this section (it honours: {others})")
        if not getattr(trainer, "honours_callbacks", True) and "callbacks" in honoured:
            for callback in self.config.callbacks:
                self._report(callback.path, f"trainer {name!r} runs no Lightning callbacks")

    def _is_named(self, section: str) -> bool:
        """Whether the config chose something in a section; what lies under every config is no choice."""
        value = self.config.resolved.get(section)
        return value is not None and value != DEFAULTS.get(section) and not (section in PLURAL and not value)

    def _check_latents(self) -> None:
        provided = getattr(self.targets.get(self.config.policy.path), "provides_latents", None)
        if not isinstance(provided, frozenset | set):
            return
        for objective in self.config.objectives:
            needed = getattr(self.targets.get(objective.path), "needs_latents", None)
            missing = sorted(_names(needed) - provided)
            if missing:
                others = ", ".join(sorted(provided)) or "none"
                self._report(
                    objective.path,
                    f"objective {objective.use!r} needs the latents {', '.join(missing)}, which policy "
                    f"{self.config.policy.use!r} does not provide (it provides: {others})",
                )


def _names(needed: Any) -> set[str]:
    return set(needed) if isinstance(needed, Iterable) and not isinstance(needed, str) else set()
