"""What has to be installed for a config: found by names alone, also where nothing of it is installed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from mscore.components import components, provider
from mscore.config.interpolation import resolve
from mscore.config.merging import PLURAL, SINGULAR, Tree, apply_overrides, merge_config
from mscore.config.messages import Origins, child
from mscore.config.requirements import parse_requirement, pip_install
from mscore.config.sources import read_source
from mscore.errors import PluginError
from mscore.hookspecs import KIND_OF_HOOK
from mscore.plugins import CORE, Plugin, PluginSet, canonical, installed_plugins

_KINDS = [kind for kind in KIND_OF_HOOK.values() if kind not in ("recipe", "command")]


@dataclass
class Need:
    """One distribution that a config needs.

    Attributes:
        distribution: its name.
        installed: its version here; None if it is not installed.
        extras: its optional parts that are needed.
        required: what the config's ``requires`` says of it.
        paths: where the config needs it.
    """

    distribution: str
    installed: str | None = None
    extras: set[str] = field(default_factory=set)
    required: Requirement | None = None
    paths: list[str] = field(default_factory=list)

    @property
    def requirement(self) -> str:
        """As pip takes it. What the config requires stands; else what is installed is the least."""
        extras = self.extras | (self.required.extras if self.required else set())
        name = self.distribution + (f"[{','.join(sorted(extras))}]" if extras else "")
        if self.required is not None and self.required.url:
            return f"{name} @ {self.required.url}"
        if self.required is not None and self.required.specifier:
            return f"{name}{self.required.specifier}"
        try:
            return f"{name}>={Version(self.installed).public}" if self.installed else name
        except InvalidVersion:
            return name


@dataclass
class Needs:
    """What a config needs, the core first, and names that nobody is known to provide."""

    distributions: list[Need]
    files: list[str]
    """Plugin files whose components it names."""
    problems: list[str]

    @property
    def command(self) -> str:
        """The ``pip install`` line."""
        return pip_install([need.requirement for need in self.distributions])


def config_needs(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, plugins: PluginSet | None = None
) -> Needs:
    """Find out what a config needs.

    A component's own parameters are not looked into, but for mappings with ``use``: that takes the
    component, which may not be installed.

    Args:
        source: a YAML file, a recipe's name, or a mapping.
        overrides: ``dotted.path=value`` each, as on the command line.
        plugins: where components are looked up; None means the installed ones.

    Raises:
        ConfigError: the config cannot be read.
    """
    plugins = plugins or installed_plugins()
    draft = read_source(source, plugins)
    tree = apply_overrides(draft.tree, list(overrides), draft.places, draft.problems)
    partials = tree.pop("stages", None)
    search = _Search(plugins, list(draft.problems))
    for component in components("recipe", plugins):
        if Path(component.target) in draft.files:
            search.add_plugin(component.plugin, f"recipe {component.name}")
    if not isinstance(partials, list) or not partials:
        search.read(tree, Origins(draft.places, draft.source))
        return search.needs()
    for index, partial in enumerate(partials):
        if isinstance(partial, Mapping):
            merged = merge_config(tree, partial, lambda path, text: None)
            search.read(merged, Origins(draft.places, draft.source, index))
    return search.needs()


class _Search:
    """Collects what configs need."""

    def __init__(self, plugins: PluginSet, problems: list[str]) -> None:
        self.plugins = plugins
        self.problems = problems
        self.files: list[str] = []
        self.found: dict[str, Need] = {}
        self.add_plugin(plugins.plugins[0], "")

    def needs(self) -> Needs:
        core, *others = self.found.values()
        ordered = sorted(others, key=lambda need: canonical(need.distribution))
        return Needs([core, *ordered], self.files, list(dict.fromkeys(self.problems)))

    def add_plugin(self, plugin: Plugin, path: str) -> None:
        if plugin.file is not None:
            self.files += [plugin.file] if plugin.file not in self.files else []
        else:
            self._add(plugin.distribution, path).installed = plugin.version or None

    def _add(self, distribution: str, path: str) -> Need:
        need = self.found.setdefault(canonical(distribution), Need(distribution))
        need.paths += [path] if path and path not in need.paths else []
        return need

    def read(self, tree: Tree, origins: Origins) -> None:
        broken: set[str] = set()
        # A variable that is set where the config runs may not be set here: its path is left out.
        tree = resolve(tree, lambda path, text: broken.add(path))
        for section, kind in SINGULAR.items():
            self._read_component([kind], tree.get(section), section, None, origins, broken)
        for section, kind in PLURAL.items():
            labels = tree.get(section)
            for label, value in labels.items() if isinstance(labels, Mapping) else ():
                if value is not None:
                    self._read_component([kind], value, child(section, str(label)), label, origins, broken)
        requires = tree.get("requires")
        for index, value in enumerate(requires if isinstance(requires, list) else ()):
            self._require(value, child("requires", index), origins)

    def _read_component(
        self, kinds: list[str], value: Any, path: str, implied: Any, origins: Origins, broken: set[str]
    ) -> None:
        use = value.get("use", implied) if isinstance(value, Mapping) else value
        if isinstance(use, Mapping):
            use = use.get("use")
        if isinstance(use, str) and path not in broken and child(path, "use") not in broken:
            self._name(kinds, use, path, origins)
        if isinstance(value, Mapping):
            for inner, nested in _nested(value, path):
                self._read_component(_KINDS, nested, inner, None, origins, broken)

    def _name(self, kinds: list[str], use: str, path: str, origins: Origins) -> None:
        at = child(path, "use") if origins.names(child(path, "use")) else path
        error: PluginError | None = None
        for kind in kinds:
            try:
                distribution, plugin = provider(kind, use, self.plugins)
            except PluginError as caught:
                error = caught
                continue
            shown = origins.locate(path)[1]
            if plugin is None:
                self._add(distribution, shown)
            else:
                self.add_plugin(plugin, shown)
                self._add_extra(plugin, kind, use)
            return
        what = str(error) if len(kinds) == 1 else f"nobody is known to provide a component {use!r}"
        self.problems.append(origins.line(at, what))

    def _add_extra(self, plugin: Plugin, kind: str, use: str) -> None:
        """A logger of the core whose library is optional: the extra has the logger's name."""
        if plugin.name == CORE and kind == "logger":
            from importlib.metadata import metadata

            name = use.rpartition("/")[2]
            if name in (metadata(CORE).get_all("Provides-Extra") or []):
                self.found[CORE].extras.add(name)

    def _require(self, value: Any, path: str, origins: Origins) -> None:
        requirement = parse_requirement(value)
        if isinstance(requirement, str):
            self.problems.append(origins.line(path, requirement))
        elif requirement.marker is None or requirement.marker.evaluate():
            self._add(requirement.name, path).required = requirement


def _nested(value: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Mappings with ``use`` among a component's parameters, wherever they stand, but not within one another."""
    items: list[tuple[str, Any]] = [(child(path, str(key)), item) for key, item in value.items() if key != "use"]
    while items:
        at, item = items.pop(0)
        if isinstance(item, Mapping) and "use" in item:
            yield at, item
        elif isinstance(item, Mapping):
            items += [(child(at, str(key)), inner) for key, inner in item.items()]
        elif isinstance(item, list):
            items += [(child(at, index), inner) for index, inner in enumerate(item)]
