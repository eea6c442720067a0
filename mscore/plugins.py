"""Discovery of plugins: entry points, isolation of broken ones, blocking, provenance.

A plugin that cannot be loaded never takes the program down. It is kept in the list with the reason,
and only a run that needs it stops. Loading order is the sorted order of distribution and entry-point
name, whatever the file system says.
"""

import inspect
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import importlib_metadata
import pluggy

import mscore
from mscore import hookspecs
from mscore.entry_points import entry_points
from mscore.errors import PluginError, did_you_mean
from mscore.hookspecs import PROJECT
from mscore.registrations import Defect, check_implementations, reason, registrations

CORE = "mscore"
DISABLE_VARIABLE = "MSCORE_DISABLE_PLUGINS"
ONLY_VARIABLE = "MSCORE_PLUGINS"
FILES_VARIABLE = "MSCORE_PLUGIN_FILES"
"""Paths of plugin files, separated as those of ``PATH`` are."""

Status = Literal["ok", "blocked", "broken", "incompatible"]


def canonical(distribution: str) -> str:
    """A distribution's normalized name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@dataclass
class Plugin:
    """One entry point of the group ``mscore``, or one file, and what became of it."""

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
    file: str | None = None
    """Path of a plugin that is a single file."""

    @property
    def label(self) -> str:
        """Distribution and version, or the file's name, for messages."""
        if self.file is not None:
            return os.path.basename(self.file)
        return f"{self.distribution} {self.version}".rstrip()

    def names(self, kind: str) -> list[str]:
        """Names of the components of one kind."""
        return sorted(self.components.get(kind, {}))

    def provenance(self) -> dict[str, Any]:
        """Name, version and source of this plugin, as a run records them.

        ``source`` is ``index`` for a package installed by name, else the address (and commit) that it was
        installed from; ``sha256`` is that of the installed file list, or of the sources when editable. A plugin
        that is a file has its path as ``source`` and ``file``, and ``sha256`` of what it holds.
        """
        identity = {"plugin": self.name, "distribution": self.distribution, "version": self.version}
        if self.file is not None:
            from mscore.plugin_files import record as record_of_file

            return identity | record_of_file(self.file)
        # Imported here and not above, as are other modules below: the listings do without them, and start
        # in half the time.
        import hashlib
        import json

        source, editable, record = "index", False, ""
        if self.metadata is not None:
            direct = json.loads(self.metadata.read_text("direct_url.json") or "{}")
            commit = direct.get("vcs_info", {}).get("commit_id")
            source = direct.get("url", source) + (f"@{commit}" if commit else "")
            editable = bool(direct.get("dir_info", {}).get("editable", False))
            record = self.metadata.read_text("RECORD") or ""
        return identity | {
            "source": source,
            "editable": editable,
            "sha256": _source_digest(self.target) if editable else hashlib.sha256(record.encode()).hexdigest(),
        }


class PluginSet:
    """The plugins of this process: loaded, blocked and broken.

    Args:
        disabled: names of plugins (or distributions) that are not imported.
        only: if not None, the only plugins that are imported.
        discover: look for installed distributions; False gives the core's own components only.
        files: paths of single files that are plugins; ``only`` does not concern them, as they are named anyway.

    Raises:
        PluginError: if ``disabled`` or ``only`` names a plugin that is not installed, or a file cannot be a
            plugin by its name.
    """

    def __init__(
        self,
        disabled: Iterable[str] = (),
        only: Iterable[str] | None = None,
        *,
        discover: bool = True,
        files: Sequence[str] = (),
    ) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[Plugin] = [Plugin(CORE, CORE, mscore.__version__, "mscore.builtin")]
        found = list(_discover()) if discover else []
        if files:
            found += _file_plugins(files, [plugin.name for plugin in found])
        self.plugins += sorted(found, key=lambda p: (canonical(p.distribution), p.name))
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

    def refuse_failed(self, *, every: bool = False) -> None:
        """Stop where a plugin file cannot be used: it was named on purpose.

        Args:
            every: stop for an installed plugin as well, also one that is not needed.

        Raises:
            PluginError: with one line for each.
        """
        lines = [
            f"plugin {plugin.name!r} ({plugin.label}) is {plugin.status}: {plugin.reason}"
            for plugin in self.failed
            if every or plugin.file is not None
        ]
        if lines:
            raise PluginError("\n".join(lines))

    def add_module(self, module: ModuleType, name: str, distribution: str = "", version: str = "") -> Plugin:
        """Load a module that is not an installed plugin, as tests and single files need it."""
        plugin = Plugin(name, distribution or name, version, module.__name__, module=module)
        self.plugins.append(plugin)
        self._load(plugin)
        return plugin

    def call_lifecycle(self, hook: str, used: Iterable[Plugin], **arguments: Any) -> None:
        """Call a life-cycle hook of the plugins that a run uses, in loading order.

        An exception carries a note naming the plugin and the hook; it does not keep the other plugins'
        hooks from running, and the first one is raised at the end, with a note on each that followed.
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
                place = f"in hook {hook} of plugin {plugin.name!r} ({plugin.label})"
                if first_error is None:
                    error.add_note(place)
                    first_error = error
                else:
                    first_error.add_note(f"then {place}: {reason(error)}")
        if first_error is not None:
            raise first_error

    def _block(self, disabled: list[str], only: list[str] | None) -> None:
        known = {name for p in self.plugins for name in (p.name, canonical(p.distribution))}
        for name in [*disabled, *(only or [])]:
            if name not in known and canonical(name) not in known:
                raise PluginError(
                    f"no plugin {name!r} is installed.{did_you_mean(name, known)} "
                    f"Installed: {', '.join(sorted(p.name for p in self.plugins))}"
                )
        if CORE in disabled:
            raise PluginError(f"the core's own components ({CORE}) cannot be blocked")
        disabled, only = _with_canonical(disabled), None if only is None else _with_canonical(only)
        for plugin in self.plugins[1:]:
            names = {plugin.name, canonical(plugin.distribution)}
            if names & set(disabled):
                plugin.status, plugin.reason = "blocked", f"blocked by {DISABLE_VARIABLE} or --without"
            elif only is not None and plugin.file is None and not names & set(only):
                plugin.status, plugin.reason = "blocked", f"not listed in {ONLY_VARIABLE}"

    def _load(self, plugin: Plugin) -> None:
        torch_was_loaded = "torch" in sys.modules
        start = time.perf_counter()
        try:
            if plugin.file is not None:
                from mscore.plugin_files import make_importable

                make_importable(plugin.file)
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
            self._refuse_shared_module(plugin)
            check_implementations(plugin.module)
            components = registrations(plugin.module)
            self._register(plugin)
            plugin.components = components
        except (Exception, SystemExit) as error:
            # Isolation is the point: whatever a plugin does wrong becomes its reason in the list.
            plugin.status, plugin.reason = "broken", reason(error)
            if plugin.file is not None:
                from mscore.plugin_files import located_reason

                plugin.reason = located_reason(error, plugin.file, plugin.module)
        finally:
            plugin.load_ms = (time.perf_counter() - start) * 1e3
            plugin.heavy = not torch_was_loaded and "torch" in sys.modules

    def _register(self, plugin: Plugin) -> None:
        name = f"{plugin.distribution}:{plugin.name}"
        try:
            self.manager.register(plugin.module, name)
        except Exception:
            # pluggy before 1.7 keeps the hooks that came before the one that failed.
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            raise

    def _refuse_shared_module(self, plugin: Plugin) -> None:
        for other in self.loaded:
            if other is not plugin and other.module is plugin.module:
                raise Defect(f"its module {plugin.target!r} is the one of plugin {other.name!r} ({other.label})")


@lru_cache(maxsize=1)
def installed_plugins() -> PluginSet:
    """The plugins of this process, discovered once, under the blocking variables of the environment."""
    only = os.environ.get(ONLY_VARIABLE)
    return PluginSet(
        disabled=_split(os.environ.get(DISABLE_VARIABLE, "")),
        only=None if only is None else _split(only),
        files=named_files(),
    )


def named_files() -> list[str]:
    """Paths of this process's plugin files."""
    return [path for path in os.environ.get(FILES_VARIABLE, "").split(os.pathsep) if path]


def name_files(paths: Iterable[str]) -> None:
    """Name further plugin files, for this process and those that it starts."""
    every = [*named_files(), *(os.path.abspath(os.path.expanduser(path)) for path in paths)]
    os.environ[FILES_VARIABLE] = os.pathsep.join(dict.fromkeys(every))
    installed_plugins.cache_clear()


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _file_plugins(files: Sequence[str], installed: Sequence[str]) -> list[Plugin]:
    from mscore.plugin_files import check_files, plugin_name

    check_files(files, installed)
    return [
        Plugin(plugin_name(path), plugin_name(path), "", plugin_name(path), file=path) for path in dict.fromkeys(files)
    ]


def _with_canonical(names: list[str]) -> list[str]:
    return [*names, *(canonical(name) for name in names)]


def _discover() -> Iterator[Plugin]:
    seen: dict[tuple[str, str], Plugin] = {}
    for name, distribution, version, target, defect, metadata in entry_points():
        status: Status = "broken" if defect else "ok"
        plugin = Plugin(name, distribution, version, target, status, defect, metadata=metadata)
        seen.setdefault((canonical(distribution), name), plugin)
    yield from seen.values()


def _import_plugin(target: str) -> ModuleType:
    module_name, _, attribute = target.partition(":")
    module = import_module(module_name)
    if not attribute:
        return module
    value = getattr(module, attribute)
    if inspect.isclass(value):
        raise Defect(f"entry point {target!r} names a class; name a module, or an instance of the class")
    return value  # type: ignore[no-any-return]


def _source_digest(target: str) -> str:
    """SHA-256 over an editable plugin's sources, so that a run tells edited code apart."""
    module = sys.modules[target.partition(":")[0]]
    package = sys.modules[module.__name__.partition(".")[0]]
    if getattr(package, "__file__", None) is None:  # a namespace, which other distributions share
        package = sys.modules[module.__package__ or module.__name__]
    import hashlib

    digest = hashlib.sha256()
    for root in getattr(package, "__path__", [package.__file__]):
        for file in sorted(_source_files(root)):
            digest.update(os.path.relpath(file, root).encode())
            with open(file, "rb") as source:
                digest.update(source.read())
    return digest.hexdigest()


def _source_files(root: str) -> Iterator[str]:
    if os.path.isfile(root):
        yield root
    for folder, _, names in os.walk(root):
        yield from (os.path.join(folder, name) for name in names if name.endswith((".py", ".yaml")))
