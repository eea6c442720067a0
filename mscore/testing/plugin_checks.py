"""What a plugin must do as a package: load, load fast, ask for what it needs, bring configs that work."""

import json
import os
import subprocess
import sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mscore.errors import MscoreError
from mscore.testing.checks import PLUGIN, CheckSkipped, Unusable, check, require
from mscore.testing.subjects import PluginSubject

HEAVY = ("torch", "lightning", "pytorch_lightning", "numpy", "gymnasium", "jax", "tensorflow")
"""Packages that an entry-point module must not import: every command would wait for them."""

_UNPINNED = ("torch", "lightning", "pytorch-lightning")

_LIGHT = """
import json, sys, time
sys.path[:] = json.loads(sys.argv[2])
import mscore
before, start = set(sys.modules), time.perf_counter()
import importlib
module = importlib.import_module(sys.argv[1])
for name in dir(module):
    if name in json.loads(sys.argv[3]):
        getattr(module, name)()
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted(set(sys.modules) - before)]))
"""


@check(PLUGIN, "loads", remedy="mend what the reason says; docs/plugins/hooks has a page for every hook")
def loads(subject: PluginSubject) -> str:
    """Its entry point resolves, its hooks are the core's, and what they register has proper names."""
    plugin = subject.plugin
    require(plugin.status == "ok", f"{plugin.label} is {plugin.status}: {plugin.reason}")
    return f"{sum(map(len, plugin.components.values()))} components"


@check(PLUGIN, "light-import", remedy="import it within the functions that need it; register import strings")
def light_import(subject: PluginSubject) -> str:
    """Importing its entry-point module in a fresh process imports nothing heavy."""
    from mscore.hookspecs import KIND_OF_HOOK

    plugin = subject.plugin
    if plugin.module is not None and plugin.status != "ok":
        raise Unusable("loads", plugin.reason)
    module = plugin.target.partition(":")[0]
    if getattr(plugin, "file", None) is not None or not plugin.target:
        raise CheckSkipped("it is a single file, not a package")
    arguments = [module, json.dumps(sys.path), json.dumps(sorted(KIND_OF_HOOK))]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MSCORE_")}
    done = subprocess.run(
        [sys.executable, "-c", _LIGHT, *arguments], capture_output=True, text=True, env=environment, timeout=120
    )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    require(done.returncode == 0, f"importing {module} fails: {last}")
    seconds, imported = json.loads(done.stdout.splitlines()[-1])
    heavy = [name for name in HEAVY if name in imported]
    require(not heavy, f"importing {module} imports {', '.join(heavy)} ({1e3 * seconds:.0f} ms)")
    return f"{1e3 * seconds:.1f} ms"


@check(PLUGIN, "needs-the-core", remedy='declare `dependencies = ["mscore>=0.1,<1"]`')
def needs_the_core(subject: PluginSubject) -> str:
    """Its metadata asks for `mscore` from a version on and below a next major one, and this one fits."""
    import mscore

    found = [one for one in _requirements(subject) if one.name == "mscore"]
    require(found, "it does not depend on mscore")
    for one in found:
        operators = {part.operator for part in one.specifier}
        require(operators & {">=", ">", "~=", "=="}, f"`{one}` has no lower bound")
        require(operators & {"<", "<=", "~=", "=="}, f"`{one}` has no upper bound")
        fits = one.specifier.contains(mscore.__version__, prereleases=True)
        require(fits, f"`{one}` excludes the installed mscore {mscore.__version__}")
    return str(found[0])


@check(PLUGIN, "no-pins", remedy="leave the versions of torch and lightning to the user: a lower bound at most")
def no_pins(subject: PluginSubject) -> None:
    """It pins neither torch nor Lightning, which one environment can have once."""
    for one in _requirements(subject):
        if canonicalize_name(one.name) in _UNPINNED:
            wrong = [str(part) for part in one.specifier if part.operator not in (">=", ">", "!=")]
            require(not wrong, f"`{one}` pins it ({', '.join(wrong)})")


@check(PLUGIN, "recipes", remedy="run `mscore run RECIPE --dry-run` and mend what it says")
def recipes(subject: PluginSubject) -> str:
    """Every recipe is a valid config whose components exist and take its parameters."""
    from mscore.config import check_parameters, load_config

    found = subject.plugin.components.get("recipe", {})
    if not found:
        raise CheckSkipped("it brings no recipes")
    for name, path in found.items():
        try:
            check_parameters(load_config(path, plugins=subject.plugins), subject.plugins)
        except MscoreError as error:
            first = str(error).splitlines()[0]
            require(False, f"recipe {name!r}: {first}")
    return ", ".join(found)


def _requirements(subject: PluginSubject) -> list[Requirement]:
    if subject.plugin.metadata is None:
        raise CheckSkipped("it is no installed distribution")
    declared = [Requirement(text) for text in subject.plugin.metadata.requires or []]
    return [one for one in declared if one.marker is None or "extra" not in str(one.marker)]
