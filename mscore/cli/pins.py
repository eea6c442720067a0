"""The installed plugins as lines of a requirements file."""

import json
from typing import Any

import importlib_metadata

from mscore.plugins import CORE, Plugin, PluginSet, canonical


def pins(plugins: PluginSet) -> list[dict[str, Any]]:
    """One entry for each distribution and each plugin file, in loading order.

    ``requirement`` is None for what no index has: an editable installation, a folder, a single file.
    """
    found: dict[str, dict[str, Any]] = {}
    for plugin in plugins:
        found.setdefault(plugin.file or canonical(plugin.distribution), _pin(plugin))
    return list(found.values())


def pin_line(pin: dict[str, Any]) -> str:
    """The line of a requirements file; a comment where there is no requirement."""
    if pin["requirement"] is not None:
        return str(pin["requirement"])
    if not pin["version"]:
        return f"# plugin file: {pin['source']}"
    how = "editable from" if pin["editable"] else "from the folder"
    return f"# {pin['distribution']}=={pin['version']} {how} {pin['source']}"


def _pin(plugin: Plugin) -> dict[str, Any]:
    name, version = plugin.distribution, plugin.version
    metadata = importlib_metadata.distribution(CORE) if plugin.name == CORE else plugin.metadata
    direct = json.loads((metadata.read_text("direct_url.json") if metadata else None) or "{}")
    url, folder, vcs = direct.get("url"), direct.get("dir_info"), direct.get("vcs_info")
    requirement: str | None = f"{name}=={version}"
    if plugin.file is not None or folder is not None:
        requirement = None
    elif vcs is not None:
        requirement = f"{name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
    elif url is not None:
        requirement = f"{name} @ {url}"
    return {
        "distribution": name,
        "version": version,
        "requirement": requirement,
        "source": plugin.file or url or "index",
        "editable": bool((folder or {}).get("editable", False)),
    }
