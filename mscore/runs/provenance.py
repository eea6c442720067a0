"""Which code a run used: its plugins, the libraries below them, and the commit of the working folder."""

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mscore.components import find
from mscore.config import RunConfig, all_selections
from mscore.errors import MscoreError
from mscore.plugins import (
    CORE,
    FILES_VARIABLE,
    Plugin,
    PluginSet,
    canonical,
    installed_plugins,
    name_files,
    named_files,
)

_LIBRARIES = ("mscore", "torch", "lightning", "gymnasium", "numpy")


def plugin_records(config: RunConfig, plugins: PluginSet | None = None) -> list[dict[str, Any]]:
    """What a run writes down about the plugins that it uses, in loading order; the core is none of them.

    Each record is :meth:`Plugin.provenance` and ``used_for``, the config's paths whose components the
    plugin provides. Stages and nested components count.
    """
    providers = [
        (selection.path, find(selection.kind, selection.use, plugins).plugin)
        for selection in all_selections(config, plugins)
    ]
    records = []
    for plugin in (plugins or installed_plugins()).loaded:
        paths = list(dict.fromkeys(path for path, provider in providers if provider is plugin))
        if paths and plugin.name != CORE:
            records.append({**plugin.provenance(), "used_for": paths})
    return records


def used_plugins(records: Iterable[Mapping[str, Any]], plugins: PluginSet | None = None) -> list[Plugin]:
    """The plugins behind such records, in loading order."""
    names = {(record["distribution"], record["plugin"]) for record in records}
    loaded = (plugins or installed_plugins()).loaded
    return [plugin for plugin in loaded if (plugin.distribution, plugin.name) in names]


def versions() -> dict[str, str]:
    """Versions of Python, the core, and the libraries that decide a run's numbers."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of the working folder and whether it has changes; None outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):  # no git, no repository, or no commit yet
        return None


def now() -> str:
    """The time in ISO format, with the offset from UTC, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def find_files(recorded: Mapping[str, Any]) -> None:
    """Name the plugin files that a run recorded, as far as they are not named already.

    For a run's own directory, which holds its provenance; what a checkpoint names is not run.

    Raises:
        MscoreError: a file is not where it was.
    """
    files = [record["file"] for record in recorded.get("plugins", []) if record.get("file")]
    named = {os.path.basename(path) for path in named_files()}
    lost = [path for path in files if os.path.basename(path) not in named and not os.path.isfile(path)]
    if lost:
        raise MscoreError(
            f"the plugin file {lost[0]} of this run is not there any more; put it back, or say where it is: "
            f"--plugin-file PATH/{os.path.basename(lost[0])}"
        )
    new = [path for path in files if os.path.basename(path) not in named]
    if new:
        name_files(new)


def header(records: Iterable[Mapping[str, Any]]) -> str:
    """The line at a run's start: ``mscore 0.1.0 | plugins: bc 0.1.0, ema 0.1.0* (*editable)``."""
    records = list(records)
    names = [
        f"{record['plugin']} {'(file)' if record.get('file') else record['version']}{'*' * record['editable']}"
        for record in records
    ]
    note = " (*editable)" if any(record["editable"] for record in records) else ""
    return f"mscore {version('mscore')} | plugins: {', '.join(names) or 'none'}{note}"


def compare(
    recorded: Mapping[str, Any], plugins: PluginSet | None = None, doing: str = "go on with this run"
) -> list[str]:
    """Compare what a run or a checkpoint recorded with what is installed.

    Args:
        recorded: a mapping with ``plugins`` and ``versions``, as runs and checkpoints keep them.
        plugins: the plugins of this process unless given.
        doing: what cannot be done without a missing plugin, for the message.

    Returns:
        One line for each difference that does not keep the run from going on.

    Raises:
        MscoreError: a plugin that was used is not there or cannot be used; with the ``pip`` line.
    """
    plugins = plugins or installed_plugins()
    installed = {(canonical(plugin.distribution), plugin.name): plugin for plugin in plugins}
    missing, changes = [], []
    for record in recorded.get("plugins", []):
        name, then = record["plugin"], record["version"]
        plugin = installed.get((canonical(record["distribution"]), name))
        if plugin is None and record.get("file"):
            missing.append(
                f"plugin file {record['file']} is not named; add --plugin-file {record['file']} (in Python, set "
                f"{FILES_VARIABLE})"
            )
        elif plugin is None:
            line = f"pip install {record['distribution']}=={then}"
            missing.append(f"plugin {name!r} ({record['distribution']} {then}) is not installed: {line}")
        elif plugin.status != "ok":
            missing.append(f"plugin {name!r} ({plugin.label}) is {plugin.status}: {plugin.reason}")
        elif plugin.version != then:
            changes.append(f"plugin {name!r} was {then}, is {plugin.version}")
        elif plugin.provenance()["sha256"] != record["sha256"]:
            what = f"the plugin file {plugin.file}" if plugin.file else f"the code of plugin {name!r} ({plugin.label})"
            changes.append(f"{what} has changed")
    if missing:
        raise MscoreError(f"cannot {doing}: " + "; ".join(missing))
    present = versions()
    changes += [
        f"{library} was {then}, is {present[library]}"
        for library, then in recorded.get("versions", {}).items()
        if present.get(library, then) != then
    ]
    return changes


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
