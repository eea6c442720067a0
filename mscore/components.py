"""Components by kind and name: lookup, lazy import, and messages for names that are not there.

A component is written in a config as its bare name (``kl``), or qualified by the plugin that provides
it (``kl/kl``) or by its distribution (``mscore-plugin-kl/kl``; ``mscore/…`` for a built-in).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from mscore.errors import PluginError, did_you_mean
from mscore.plugins import Plugin, PluginSet, canonical, installed_plugins
from mscore.registrations import reason


class UnknownComponent(PluginError):
    """No usable plugin provides the name that was asked for."""


class AmbiguousComponent(PluginError):
    """Two plugins provide the name that was asked for, and neither wins."""


class UnimportableComponent(PluginError):
    """The component is registered, but importing it failed."""


@dataclass(frozen=True)
class Component:
    """A registered component, not yet imported."""

    kind: str
    name: str
    target: str
    """Import string, ``"package.module:Attribute"``."""
    plugin: Plugin

    @property
    def qualified(self) -> str:
        """Name that is unique among installed plugins."""
        return f"{canonical(self.plugin.distribution)}/{self.name}"

    def load(self) -> Any:
        """Import and return the component's class (or factory).

        Raises:
            UnimportableComponent: if the import fails; the message tells a module that is not installed
                from an attribute that does not exist, and names the plugin.
        """
        module_name, _, attributes = self.target.partition(":")
        where = f"{self.kind} {self.name!r} of plugin {self.plugin.name!r} ({self.plugin.label}) cannot be imported"
        try:
            value: Any = import_module(module_name)
            for attribute in attributes.split("."):
                # Packages export lazily, so that an attribute may import its module only now.
                if not hasattr(value, attribute):
                    raise UnimportableComponent(
                        f"{where}: module {module_name!r} has no attribute {attribute!r}."
                        f"{did_you_mean(attribute, dir(value))}"
                    )
                value = getattr(value, attribute)
        except UnimportableComponent:
            raise
        except ModuleNotFoundError as error:
            raise UnimportableComponent(f"{where}: {self._missing(error, module_name)}") from error
        except (Exception, SystemExit) as error:
            raise UnimportableComponent(f"{where}: {reason(error)}") from error
        return value

    def _missing(self, error: ModuleNotFoundError, module_name: str) -> str:
        """Tell a plugin that is wrong about its own module from one that lacks a library."""
        if not error.name:
            return reason(error)
        if f"{module_name}.".startswith(f"{error.name}."):
            own = f"the file's own names are {self.plugin.name}:NAME"
            remedy = own if self.plugin.file else f"reinstall {self.plugin.distribution}"
            return f"there is no module {error.name!r} for its import string {self.target!r}; {remedy}"
        return f"it needs the module {error.name!r}, which is not installed"


def components(kind: str, plugins: PluginSet | None = None) -> list[Component]:
    """All components of a kind, sorted by name, then by distribution."""
    plugins = plugins or installed_plugins()
    found = [
        Component(kind, name, target, plugin)
        for plugin in plugins.loaded
        for name, target in plugin.components.get(kind, {}).items()
    ]
    return sorted(found, key=lambda component: (component.name, component.qualified))


def find(kind: str, name: str, plugins: PluginSet | None = None) -> Component:
    """Find a component by its bare or qualified name, without importing it.

    Raises:
        UnknownComponent: no plugin provides it; the message gives the nearest names, the ``pip install``
            line for a name that a known plugin provides, and the plugins that could not be loaded.
        AmbiguousComponent: two plugins provide it and the name is not qualified.
    """
    plugins = plugins or installed_plugins()
    everything = components(kind, plugins)
    owner, _, bare = name.rpartition("/")
    matches = [component for component in everything if component.name == bare]
    if owner:
        matches = [component for component in matches if _owns(component.plugin, owner)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        providers = " and ".join(component.plugin.label for component in matches)
        spellings = " or ".join(repr(spelling) for spelling in _spellings(matches))
        raise AmbiguousComponent(f"{kind} {name!r} is provided by {providers}; write {spellings}")
    raise UnknownComponent(_unknown(kind, owner, bare, name, everything, plugins))


def _spellings(matches: list[Component]) -> list[str]:
    """Shortest qualified names that tell the matches apart."""
    short = [f"{component.plugin.name}/{component.name}" for component in matches]
    return short if len(set(short)) == len(short) else [component.qualified for component in matches]


def _owns(plugin: Plugin, owner: str) -> bool:
    """Whether a qualifier means a plugin: by its own name or its distribution's."""
    return owner == plugin.name or canonical(owner) == canonical(plugin.distribution)


def provider(kind: str, name: str, plugins: PluginSet | None = None) -> tuple[str, Plugin | None]:
    """The distribution that provides a name, also where it is not installed or cannot be used.

    Returns:
        The distribution's name, and its plugin if it is installed.

    Raises:
        UnknownComponent: nobody is known to provide it.
        AmbiguousComponent: two installed plugins provide it and the name is not qualified.
    """
    plugins = plugins or installed_plugins()
    try:
        plugin = find(kind, name, plugins).plugin
        return plugin.distribution, plugin
    except UnknownComponent:
        owner, _, bare = name.rpartition("/")
        unusable = _unusable_provider(kind, bare, owner, plugins)
        if unusable is not None:
            return unusable.distribution, unusable
        listed = _listed_provider(kind, bare, owner, plugins)
        if listed is not None:
            return listed, None
        raise


def _unusable_provider(kind: str, bare: str, owner: str, plugins: PluginSet) -> Plugin | None:
    """The plugin that is installed, not in use, and would provide a name."""
    return next(
        (plugin for plugin in plugins if plugin.status != "ok" and _would_provide(plugin, kind, bare, owner)), None
    )


def _listed_provider(kind: str, bare: str, owner: str, plugins: PluginSet) -> str | None:
    """The distribution that is not installed, and provides a name as the plugin directory says."""
    installed = {canonical(plugin.distribution) for plugin in plugins}
    for entry in plugin_directory():
        distribution: str = entry["distribution"]
        if owner and canonical(owner) not in (distribution, distribution.removeprefix("mscore-plugin-")):
            continue
        if bare in entry["provides"].get(kind, []) and distribution not in installed:
            return distribution
    return None


def _unknown(kind: str, owner: str, bare: str, name: str, everything: Iterable[Component], plugins: PluginSet) -> str:
    plugin = _unusable_provider(kind, bare, owner, plugins)
    if plugin is not None:
        return (
            f"{kind} {name!r} is provided by plugin {plugin.name!r}, which cannot be used: "
            f"{plugin.label} is installed but {plugin.status}: {plugin.reason}"
        )
    distribution = _listed_provider(kind, bare, owner, plugins)
    if distribution is not None:
        return f"no {kind} {name!r} is installed; {distribution} provides it: pip install {distribution}"
    if owner:
        return _unknown_in(kind, owner, bare, name, plugins)
    known = sorted({component.name for component in everything})
    message = f"unknown {kind} {name!r}.{did_you_mean(bare, known)}"
    if len(known) <= 12:
        message += f" Available: {', '.join(known) or 'none'}."
    else:
        message += f" `mscore plugins` lists all {len(known)}."
    if plugins.failed:
        message += " Not loaded: " + "; ".join(f"{plugin.label} ({plugin.reason})" for plugin in plugins.failed) + "."
    blocked = [plugin.name for plugin in plugins.plugins if plugin.status == "blocked"]
    if blocked:
        message += f" Blocked: {', '.join(blocked)}."
    return message


def _unknown_in(kind: str, owner: str, bare: str, name: str, plugins: PluginSet) -> str:
    """The message for a qualified name whose plugin is not there, or does not provide it."""
    for plugin in plugins.loaded:
        if _owns(plugin, owner):
            names = plugin.names(kind)
            return (
                f"unknown {kind} {name!r}: plugin {plugin.name!r} ({plugin.label}) has no {kind} {bare!r}."
                f"{did_you_mean(bare, names)} It provides: {', '.join(names) or 'none'}."
            )
    known = [spelling for plugin in plugins for spelling in (plugin.name, canonical(plugin.distribution))]
    return f"unknown {kind} {name!r}: no plugin {owner!r} is installed.{did_you_mean(owner, known)}"


def _would_provide(plugin: Plugin, kind: str, bare: str, owner: str) -> bool:
    """Whether a plugin that is not in use is the one that would provide a name, as far as can be known."""
    if owner:
        return _owns(plugin, owner)
    listed = {entry["distribution"]: entry["provides"] for entry in plugin_directory()}
    provides = listed.get(canonical(plugin.distribution))
    return plugin.name == bare if provides is None else bare in provides.get(kind, [])


def note_plugin(error: BaseException) -> None:
    """Note on an exception which plugin's code raised it: plugin, version, component and method.

    The innermost frame that belongs to a plugin says it; nothing is noted if there is none, or if a note names
    the plugin already. Looking costs something only once there is an exception.
    """
    packages = {plugin.target.partition(":")[0].partition(".")[0]: plugin for plugin in installed_plugins().loaded[1:]}
    found = ""
    trace = error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        plugin = packages.get(str(frame.f_globals.get("__name__", "")).partition(".")[0])
        if plugin is not None:
            place = _registered(plugin, frame.f_locals.get("self")) or "plugin code"
            found = f"in {place} of plugin {plugin.name!r} ({plugin.label}): {frame.f_code.co_qualname}"
    if found and found not in getattr(error, "__notes__", []):
        error.add_note(found)


def _registered(plugin: Plugin, value: Any) -> str:
    """Kind and name under which a plugin registers an object's class; ``""`` if it does not."""
    for base in type(value).__mro__:
        for kind, targets in plugin.components.items():
            for name, target in targets.items():
                module, _, attributes = target.partition(":")
                # Packages register what they export: the class itself may live deeper.
                if attributes == base.__qualname__ and f"{base.__module__}.".startswith(f"{module}."):
                    return f"{kind} {name!r}"
    return ""


@lru_cache(maxsize=1)
def plugin_directory() -> list[dict[str, Any]]:
    """The known plugins: distribution, summary, and the names that each provides by kind."""
    import json

    text = files("mscore").joinpath("plugin_directory.json").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = json.loads(text)
    return entries
