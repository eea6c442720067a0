"""From a plugin's name to the checks that apply to it, and to their outcomes."""

import io
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mscore.components import components
from mscore.errors import MscoreError, PluginError, did_you_mean
from mscore.plugins import Plugin, PluginSet, canonical, installed_plugins
from mscore.testing.checks import ANY, PLUGIN, Check, Outcome, checks_of, perform
from mscore.testing.subjects import ComponentSubject, PluginSubject, SampleSource

CHECKED_ELSEWHERE = ("recipe",)
"""Kinds without checks of each component: those of the plugin cover them."""


@dataclass(frozen=True)
class Item:
    """A check and what it is to be held against."""

    id: str
    """``<kind>/<component>/<check>``, or ``plugin/<check>``."""
    check: Check
    plugin: Plugin
    plugins: PluginSet
    component: Any = None
    sample: SampleSource | None = None

    def run(self, folder: Path | None = None) -> Outcome:
        """Perform the check.

        Args:
            folder: empty, for what the component writes; by default one that is removed afterwards.
        """
        with _folder(folder) as path, _left_alone():
            subject: Any = PluginSubject(self.plugin, self.plugins, path)
            if self.component is not None:
                subject = ComponentSubject(self.component, self.plugins, self.sample or {}, path)
            return perform(self.id, self.check, subject)


def plugins_named(name: str, plugins: PluginSet) -> list[Plugin]:
    """The plugins that a name means: one by its own name, or all of a distribution.

    Raises:
        PluginError: nothing of that name is installed.
    """
    own = [plugin for plugin in plugins if plugin.name == name]
    found = own or [plugin for plugin in plugins if canonical(plugin.distribution) == canonical(name)]
    if not found:
        known = {spelling for plugin in plugins for spelling in (plugin.name, canonical(plugin.distribution))}
        raise PluginError(
            f"no plugin {name!r} is installed.{did_you_mean(name, known)} `mscore plugins` lists those that are"
        )
    return found


def collect(
    name: str, samples: Mapping[str, SampleSource] | None = None, plugins: PluginSet | None = None
) -> list[Item]:
    """The checks that apply to a plugin, in the order in which they run.

    Args:
        name: of the plugin or of its distribution.
        samples: what the kit cannot guess, by ``<kind>/<component>``.
        plugins: where the plugin is looked up; None means the installed ones.

    Raises:
        MscoreError: there is no such plugin, or a sample is for no component of it.
    """
    plugins = plugins or installed_plugins()
    samples = dict(samples or {})
    items: list[Item] = []
    subjects: set[str] = set()
    for plugin in plugins_named(name, plugins):
        prefix = PLUGIN if not items else f"{PLUGIN}/{plugin.name}"
        items += [Item(f"{prefix}/{one.name}", one, plugin, plugins) for one in checks_of(PLUGIN)]
        for kind in plugin.components if plugin.status == "ok" else ():
            if kind in CHECKED_ELSEWHERE:
                continue
            for component in components(kind, plugins):
                if component.plugin is not plugin:
                    continue
                label = f"{kind}/{component.name}"
                subjects.add(label)
                general = [] if kind == "command" else checks_of(ANY)
                items += [
                    Item(f"{label}/{one.name}", one, plugin, plugins, component, samples.get(label))
                    for one in (*general, *checks_of(kind))
                ]
    if subjects:
        _refuse_unknown("samples", samples, subjects)
    return items


def check_plugin(
    name: str, samples: Mapping[str, SampleSource] | None = None, plugins: PluginSet | None = None
) -> Iterator[Outcome]:
    """Hold a plugin against every check that applies to it, one after the other.

    Args:
        name: of the plugin or of its distribution.
        samples: what the kit cannot guess, by ``<kind>/<component>``.
        plugins: where the plugin is looked up; None means the installed ones.

    Raises:
        MscoreError: there is no such plugin, or a sample is for no component of it.
    """
    for item in collect(name, samples, plugins):
        # What the plugin prints has no place among the outcomes.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            outcome = item.run()
        yield outcome


def _refuse_unknown(what: str, given: Mapping[str, Any], known: set[str]) -> None:
    for key in given:
        if key not in known:
            raise MscoreError(f"{what} names {key!r}.{did_you_mean(key, known)} There are: {', '.join(sorted(known))}")


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="mscore-check-") as made:
        yield Path(made)


@contextmanager
def _left_alone() -> Iterator[None]:
    """Leave the process as it was: a check that uses random numbers takes none from whoever runs it."""
    if "torch" not in sys.modules:
        yield
        return
    import torch

    from mscore.offline import random_state

    before = random_state.capture()
    torch.manual_seed(0)
    try:
        yield
    finally:
        random_state.restore(before)
