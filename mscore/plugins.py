"""Discovery of plugins: entry points, isolation of broken ones, blocking, provenance.

A plugin that cannot be loaded never takes the program down. It is kept in the list with the reason,
and only a run that needs it stops. Loading order is the sorted order of distribution and entry-point
name, whatever the file system says.
"""

import hashlib
import inspect
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import importlib_metadata
import pluggy

import mscore
from mscore import hookspecs
from mscore.errors import PluginError, did_you_mean
from mscore.hookspecs import KIND_OF_HOOK, PROJECT

GROUP = "mscore"
CORE = "mscore"
DISABLE_VARIABLE = "MSCORE_DISABLE_PLUGINS"
ONLY_VARIABLE = "MSCORE_PLUGINS"

Status = Literal["ok", "blocked", "broken", "incompatible"]

_COMPONENT_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_COMMAND_NAME = re.compile(r"[a-z][a-z0-9-]*( [a-z][a-z0-9-]*)*")
_IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def canonical(distribution: str) -> str:
    """A distribution's normalized name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@dataclass
class Plugin:
    """One entry point of the group ``mscore`` and what became of it."""

    name: str
    """Entry-point name: what a user types."""
    distribution: str
    version: str
    target: str
    """Import name of the plugin's module."""
    status: Status = "ok"
    reason: str = ""
    """Why it is not in use, in one line."""
    load_ms: float = 0.0
    heavy: bool = False
    """True if loading it imported torch, which slows every command."""
    components: dict[str, dict[str, str]] = field(default_factory=dict)
    """Kind to mapping of component name to import string."""
    module: ModuleType | None = None
    metadata: importlib_metadata.Distribution | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """Distribution and version, for messages."""
        return f"{self.distribution} {self.version}".rstrip()

    def names(self, kind: str) -> list[str]:
        """Names of the components of one kind."""
        return sorted(self.components.get(kind, {}))

    def provenance(self) -> dict[str, Any]:
        """Name, version and source of this plugin, as a run records them.

        ``source`` is ``index`` for a package installed by name, else the address that it was installed
        from; ``record`` is the SHA-256 of the installed file list, or of the sources when editable.
        """
        source, editable, record = "index", False, ""
        if self.metadata is not None:
            direct = json.loads(self.metadata.read_text("direct_url.json") or "{}")
            source = direct.get("url", source)
            editable = bool(direct.get("dir_info", {}).get("editable", False))
            record = self.metadata.read_text("RECORD") or ""
        return {
            "plugin": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "source": source,
            "editable": editable,
            "sha256": _source_digest(self.module) if editable else hashlib.sha256(record.encode()).hexdigest(),
        }


class PluginSet:
    """The plugins of this process: loaded, blocked and broken.

    Args:
        disabled: names of plugins (or distributions) that are not imported.
        only: if not None, the only plugins that are imported.
        discover: look for installed distributions; False gives the core's own components only.

    Raises:
        PluginError: if ``disabled`` or ``only`` names a plugin that is not installed.
    """

    def __init__(
        self, disabled: Iterable[str] = (), only: Iterable[str] | None = None, *, discover: bool = True
    ) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[Plugin] = [Plugin(CORE, CORE, mscore.__version__, "mscore.builtin")]
        if discover:
            self.plugins += sorted(_discover(), key=lambda p: (canonical(p.distribution), p.name))
        self._block(list(disabled), None if only is None else list(only))
        for plugin in self.plugins:
            if plugin.status == "ok":
                self._load(plugin)

    def __iter__(self) -> Iterator[Plugin]:
        return iter(self.plugins)

    @property
    def loaded(self) -> list[Plugin]:
        """Plugins in use, the core's built-in one first."""
        return [plugin for plugin in self.plugins if plugin.status == "ok"]

    @property
    def failed(self) -> list[Plugin]:
        """Plugins that are installed but cannot be used (broken or incompatible)."""
        return [plugin for plugin in self.plugins if plugin.status in ("broken", "incompatible")]

    def add_module(self, module: ModuleType, name: str, distribution: str = "", version: str = "") -> Plugin:
        """Load a module that is not an installed plugin, as tests and single files need it."""
        plugin = Plugin(name, distribution or name, version, module.__name__, module=module)
        self.plugins.append(plugin)
        self._load(plugin)
        return plugin

    def call_lifecycle(self, hook: str, used: Iterable[Plugin], **arguments: Any) -> None:
        """Call a life-cycle hook of the plugins that a run uses, in loading order.

        An exception carries a note naming the plugin and the hook; it does not keep the other plugins'
        hooks from running, and the first one is raised at the end.
        """
        first_error: Exception | None = None
        chosen = {id(plugin) for plugin in used}
        for plugin in self.loaded:
            if id(plugin) not in chosen or not hasattr(plugin.module, hook):
                continue
            others = [p.module for p in self.loaded if p is not plugin]
            caller = self.manager.subset_hook_caller(hook, others)
            try:
                caller(**arguments)
            except Exception as error:
                error.add_note(f"in hook {hook} of plugin {plugin.name!r} ({plugin.label})")
                first_error = first_error or error
        if first_error is not None:
            raise first_error

    def _block(self, disabled: list[str], only: list[str] | None) -> None:
        known = {name for p in self.plugins for name in (p.name, canonical(p.distribution))}
        for name in [*disabled, *(only or [])]:
            if name not in known:
                raise PluginError(
                    f"no plugin {name!r} is installed.{did_you_mean(name, known)} "
                    f"Installed: {', '.join(sorted(p.name for p in self.plugins))}"
                )
        for plugin in self.plugins[1:]:
            names = {plugin.name, canonical(plugin.distribution)}
            if names & set(disabled):
                plugin.status, plugin.reason = "blocked", f"blocked by {DISABLE_VARIABLE} or --without"
            elif only is not None and not names & set(only):
                plugin.status, plugin.reason = "blocked", f"not listed in {ONLY_VARIABLE}"

    def _load(self, plugin: Plugin) -> None:
        torch_was_loaded = "torch" in sys.modules
        start = time.perf_counter()
        try:
            if plugin.module is None:
                plugin.module = _import_plugin(plugin.target)
            api = getattr(plugin.module, "MSCORE_API", mscore.MSCORE_API)
            if api != mscore.MSCORE_API:
                newer = isinstance(api, int) and api > mscore.MSCORE_API
                plugin.status = "incompatible"
                plugin.reason = f"written for plugin API {api}, this mscore {mscore.__version__} has " + (
                    f"{mscore.MSCORE_API}: upgrade mscore" if newer else f"{mscore.MSCORE_API}"
                )
                return
            _check_implementations(plugin.module)
            self.manager.register(plugin.module, f"{plugin.distribution}:{plugin.name}")
            plugin.components = _registrations(plugin.module)
        except (Exception, SystemExit) as error:
            # Isolation is the point: whatever a plugin does wrong becomes its reason in the list.
            plugin.status, plugin.reason = "broken", _reason(error)
            plugin.components = {}
            if plugin.module is not None and self.manager.is_registered(plugin.module):
                self.manager.unregister(plugin.module)
        finally:
            plugin.load_ms = (time.perf_counter() - start) * 1e3
            plugin.heavy = not torch_was_loaded and "torch" in sys.modules


@lru_cache(maxsize=1)
def installed_plugins() -> PluginSet:
    """The plugins of this process, discovered once, under the blocking variables of the environment."""
    only = os.environ.get(ONLY_VARIABLE)
    return PluginSet(disabled=_split(os.environ.get(DISABLE_VARIABLE, "")), only=None if only is None else _split(only))


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _discover() -> Iterator[Plugin]:
    seen: dict[tuple[str, str], Plugin] = {}
    for distribution in importlib_metadata.distributions():
        # A loop over distributions, not entry_points(group=…): the latter hides a distribution whose
        # metadata is shadowed by a stale folder earlier on the path.
        text = distribution.read_text("entry_points.txt")
        if not text or f"[{GROUP}]" not in text:
            continue
        for entry in distribution.entry_points.select(group=GROUP):
            key = (canonical(distribution.name), entry.name)
            if key not in seen:
                seen[key] = Plugin(
                    entry.name, distribution.name, distribution.version, entry.value, metadata=distribution
                )
    yield from seen.values()


def _import_plugin(target: str) -> ModuleType:
    module_name, _, attribute = target.partition(":")
    module = import_module(module_name)
    if not attribute:
        return module
    value = getattr(module, attribute)
    if inspect.isclass(value):
        raise TypeError(f"entry point {target!r} names a class; name a module, or an instance of the class")
    return value  # type: ignore[no-any-return]


def _check_implementations(module: ModuleType) -> None:
    """Refuse what pluggy would accept silently: misspelt hooks, forgotten marks, defaulted arguments."""
    known = hookspecs.hook_names()
    for name in dir(module):
        if name.startswith("__"):
            continue
        function = inspect.getattr_static(module, name)
        marked = getattr(function, f"{PROJECT}_impl", None) is not None
        if not marked:
            if name.startswith(f"{PROJECT}_") and name in known and callable(function):
                raise TypeError(f"{name} is not decorated with @mscore.hookimpl")
            continue
        if name not in known:
            raise TypeError(f"unknown hook {name!r}.{did_you_mean(name, known)}")
        allowed = list(inspect.signature(getattr(hookspecs, name)).parameters)
        parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
        for parameter in parameters:
            if parameter.name not in allowed:
                expected = f"it may take: {', '.join(allowed)}" if allowed else "it takes none"
                raise TypeError(f"hook {name} has no argument {parameter.name!r}; {expected}")
            if parameter.default is not parameter.empty:
                raise TypeError(f"argument {parameter.name!r} of hook {name} has a default value; remove it")


def _registrations(module: ModuleType) -> dict[str, dict[str, str]]:
    components: dict[str, dict[str, str]] = {}
    for hook, kind in KIND_OF_HOOK.items():
        function = getattr(module, hook, None)
        if function is None:
            continue
        result = function()
        if kind == "recipe":
            if not isinstance(result, str):
                raise TypeError(f"{hook} returned {type(result).__name__}, expected a package name (str)")
            components[kind] = _recipes(result)
            continue
        if not isinstance(result, Mapping):
            raise TypeError(f"{hook} returned {type(result).__name__}, expected a mapping of name to import string")
        pattern = _COMMAND_NAME if kind == "command" else _COMPONENT_NAME
        for name, target in result.items():
            if not isinstance(name, str) or not pattern.fullmatch(name):
                raise ValueError(f"{hook} registers {name!r}; names are lower-case words joined by hyphens")
            if not isinstance(target, str) or not _IMPORT_STRING.fullmatch(target):
                raise ValueError(
                    f"{hook} registers {name!r} as {target!r}, expected an import string 'package.module:Attribute'"
                )
        components[kind] = dict(result)
    return components


def _recipes(package: str) -> dict[str, str]:
    """Recipe name to path, for a package folder of YAML files, without importing the package's parents."""
    from importlib.resources import files

    folder = files(package)
    return {
        entry.name.removesuffix(".yaml"): str(entry)
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    }


def _reason(error: BaseException) -> str:
    """The last line of an error, with its type, on one line."""
    text = " ".join(str(error).split()) or "no message"
    if isinstance(error, SyntaxError) and error.filename:
        text = f"{error.msg} ({error.filename}, line {error.lineno})"
    return f"{type(error).__name__}: {text}"


def _source_digest(module: ModuleType | None) -> str:
    """SHA-256 over an editable plugin's Python sources, so that a run tells edited code apart."""
    digest = hashlib.sha256()
    for root in getattr(module, "__path__", []):
        for folder, folders, files in sorted(os.walk(root)):
            folders.sort()
            for file in sorted(name for name in files if name.endswith((".py", ".yaml"))):
                digest.update(file.encode())
                with open(os.path.join(folder, file), "rb") as source:
                    digest.update(source.read())
    return digest.hexdigest()
