"""The checks of a plugin as a package, and of its commands, catch their mistakes."""

import importlib
import sys
from types import SimpleNamespace

import pytest

from mscore.plugins import PluginSet
from mscore.testing.checks import checks_of
from mscore.testing.collection import collect

GOOD = """
from mscore import hookimpl

@hookimpl
def mscore_objectives():
    return {}
"""
RECIPES = """
@hookimpl
def mscore_recipes():
    return "kit_recipes"
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes a plugin of a module's code; gives check to outcome."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(code, requires=("mscore>=0.1,<1",)):
        (tmp_path / "kit_package.py").write_text(code)
        monkeypatch.delitem(sys.modules, "kit_package", raising=False)
        importlib.invalidate_caches()
        plugins = PluginSet(discover=False)
        plugin = plugins.add_module(importlib.import_module("kit_package"), "kit-package", "mscore-plugin-kit-package")
        plugin.metadata = SimpleNamespace(requires=list(requires))
        return {item.check.name: item.run() for item in collect("kit-package", plugins=plugins)}

    return make


def failing(outcomes):
    return {name for name, one in outcomes.items() if one.status in ("fail", "warning")}


def test_a_right_package_passes(package):
    found = package(GOOD, ("mscore>=0.1,<1", "torch>=2.5", "wandb==0.17; extra == 'wandb'"))
    assert failing(found) == set()
    assert found["light-import"].reason.endswith(" ms")


@pytest.mark.parametrize(
    ("check", "code", "said"),
    [
        ("loads", GOOD.replace("mscore_objectives", "mscore_objective"), "Did you mean 'mscore_objectives'"),
        ("loads", GOOD.replace("objectives():", "objectives(config):"), "has no argument 'config'"),
        ("loads", GOOD.replace("return {}", "return {'Not A Name': 'a:B'}"), "lower-case words"),
        ("light-import", "import numpy\n" + GOOD, "imports numpy"),
    ],
)
def test_a_wrong_module_is_caught(package, check, code, said):
    found = package(code)
    assert failing(found) == {check}
    assert said in found[check].reason


@pytest.mark.parametrize(
    ("check", "requires", "said"),
    [
        ("needs-the-core", ["torch>=2"], "does not depend"),
        ("needs-the-core", ["mscore"], "no lower bound"),
        ("needs-the-core", ["mscore>=0.1"], "no upper bound"),
        ("needs-the-core", ["mscore>=7,<8"], "excludes"),
        ("no-pins", ["mscore>=0.1,<1", "torch==2.5.0"], "==2.5.0"),
        ("no-pins", ["mscore>=0.1,<1", "Lightning>=2.5,<2.7"], "<2.7"),
    ],
)
def test_wrong_requirements_are_caught(package, check, requires, said):
    found = package(GOOD, requires)
    assert failing(found) == {check}
    assert said in found[check].reason


def test_a_recipe_that_names_nothing_is_caught(package, tmp_path):
    (tmp_path / "kit_recipes").mkdir()
    (tmp_path / "kit_recipes" / "broken.yaml").write_text(
        "policy: recurent\ndata: nothing\nobjectives: {nothing: {}}\n"
    )
    found = package(GOOD + RECIPES)
    assert failing(found) == {"recipes"}
    assert "'broken'" in found["recipes"].reason


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("is-a-command", "def it():\n    pass\n"),
        ("says-what-it-does", "import click\n@click.command()\ndef it():\n    pass\n"),
    ],
)
def test_a_wrong_command_is_caught(caught, tmp_path, monkeypatch, name, code):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"kit_command_{len(name)}.py").write_text(code)
    found = caught("command", f"kit_command_{len(name)}:it")
    assert name in found
    assert found <= {one.name for one in checks_of("command")}
