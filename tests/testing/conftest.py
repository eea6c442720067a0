"""Wrong components for the kit: what each check says about them."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from mscore.hookspecs import KIND_OF_HOOK, hookimpl
from mscore.plugins import PluginSet
from mscore.testing.collection import collect

# Components are named by import strings, so the modules that hold the wrong ones must be importable.
sys.path.insert(0, str(Path(__file__).parent))
HOOKS = {kind: hook for hook, kind in KIND_OF_HOOK.items()}


def plugin_of(kind, target):
    """A set with one plugin that registers one component, ``it``."""

    def hook():
        return {"it": target}

    module = ModuleType("kit_subject")
    setattr(module, HOOKS[kind], hookimpl(hook))
    plugins = PluginSet(discover=False)
    plugin = plugins.add_module(module, "subject", "mscore-plugin-subject", "1.0")
    assert plugin.status == "ok", plugin.reason
    return plugins


@pytest.fixture
def outcomes():
    """Runs every check of a component; gives check to outcome."""

    def run(kind, target, sample=None):
        samples = {} if sample is None else {f"{kind}/it": sample}
        items = [item for item in collect("subject", samples, plugin_of(kind, target)) if item.component is not None]
        return {item.id.removeprefix(f"{kind}/it/"): item.run() for item in items}

    return run


@pytest.fixture
def caught(outcomes):
    """Names of the checks that fail or warn."""

    def run(kind, target, sample=None):
        return {name for name, one in outcomes(kind, target, sample).items() if one.status in ("fail", "warning")}

    return run
