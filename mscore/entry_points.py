"""The entry points of plugins, from the metadata of installed distributions; nothing of them is imported."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

import importlib_metadata

from mscore.registrations import reason

GROUP = "mscore"


class EntryPoint(NamedTuple):
    """One entry point of the group ``mscore``."""

    name: str
    distribution: str
    version: str
    target: str
    """What it names: a module, or an object of one."""
    defect: str
    """What is wrong with the distribution's metadata; empty if nothing is."""
    metadata: importlib_metadata.Distribution


def entry_points() -> Iterator[EntryPoint]:
    """All entry points of plugins; one may come twice, where a distribution's metadata lies on the path twice."""
    # Python's own path names a zip file that nowhere exists; looking into it would import all of zipfile.
    path = [entry for entry in sys.path if os.path.exists(entry or ".")]
    for distribution in cast("Iterable[importlib_metadata.Distribution]", importlib_metadata.distributions(path=path)):
        # A loop over distributions, not entry_points(group=…): the latter hides a distribution whose
        # metadata is shadowed by a stale folder earlier on the path.
        text = distribution.read_text("entry_points.txt")
        if text and f"[{GROUP}]" in text:
            yield from _of_distribution(distribution)


def _of_distribution(distribution: importlib_metadata.Distribution) -> list[EntryPoint]:
    """The plugins of a distribution; with a defect where its metadata cannot be read."""
    name, version, defect = _name_and_version(distribution)
    try:
        entries = [(entry.name, entry.value) for entry in distribution.entry_points.select(group=GROUP)]
    except Exception as error:  # the file may hold anything, and must not take the program down
        entries, defect = [(name, "")], f"its entry_points.txt cannot be read ({reason(error)})"
    return [EntryPoint(entry, name, version, target, defect, distribution) for entry, target in entries]


def _name_and_version(distribution: importlib_metadata.Distribution) -> tuple[str, str, str]:
    """A distribution's name, its version, and what is wrong with its metadata.

    The first lines are read here, as importlib-metadata would import the email package to parse them, at
    a sixth of what a command may take to start.
    """
    head = (distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or "").partition("\n\n")[0]
    fields = dict(line.split(": ", 1) for line in head.splitlines() if re.match(r"(Name|Version): ", line))
    if "Name" in fields:
        return fields["Name"], fields.get("Version", ""), ""
    folder = str(getattr(distribution, "_path", "a distribution")).replace(os.sep, "/").rpartition("/")[2]
    name, _, version = folder.removesuffix(".dist-info").partition("-")
    return name, version, f"{folder} has no METADATA, as after an interrupted installation: remove that folder"
