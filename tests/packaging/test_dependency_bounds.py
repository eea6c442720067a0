"""The core works with the oldest libraries that it says it works with.

The newest ones are those of constraints.txt, under which every other test runs. torch stays the one of this
environment: another would be gigabytes.
"""

import json
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from mscore.template import write_package

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
HERE = [f"torch=={version('torch')}"]

# What builds a wheel is left out: it needs younger tools than the core does.
SENSITIVE = ["plugins", "config", "contracts", "heads", "trajectories", "offline"]
SENSITIVE += [f"cli/test_cli_{what}.py" for what in ("plugins", "program", "run")]
LEFT_OUT = ["--ignore", ROOT / "tests" / "plugins" / "test_thirdparty_package.py"]


def lowest(extra: str | None = None) -> dict[str, str]:
    """The lower bound of each dependency of the core, or of an extra of its."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    bounds = {}
    for requirement in map(Requirement, needed):
        (bound,) = [one.version for one in requirement.specifier if one.operator == ">="]
        bounds[requirement.name] = bound
    return bounds


def installed(fresh, names) -> dict[str, Version]:
    code = "import importlib.metadata as m, json; print(json.dumps({name: m.version(name) for name in %r}))"
    return {name: Version(text) for name, text in json.loads(fresh.code(code % list(names))).items()}


def run_tests(fresh, *places):
    folders = [ROOT / "tests" / place for place in places]
    return fresh.pytest("-c", ROOT / "pyproject.toml", "--rootdir", ROOT, *LEFT_OUT, *folders)


def test_the_core_under_its_lowest_dependencies(fresh):
    bounds = {name: bound for name, bound in lowest().items() if name != "torch"}
    constraints = fresh.folder / "lowest.txt"
    constraints.write_text("\n".join([*HERE, *(f"{name}=={bound}" for name, bound in bounds.items())]))
    # pytest 9 needs a younger pluggy than the core.
    fresh.install("--constraint", constraints, *PLUGINS, *bounds, "pytest<9", index=True)
    assert installed(fresh, bounds) == {name: Version(bound) for name, bound in bounds.items()}
    assert "passed" in run_tests(fresh, *SENSITIVE)


def test_plugins_under_the_pluggy_in_between(fresh):
    """1.6 gives a defaulted argument its default and keeps a half-registered plugin, and 1.7 does not."""
    fresh.install(*PLUGINS)
    fresh.install(*HERE, "pluggy==1.6.0", index=True)
    assert installed(fresh, ["pluggy"]) == {"pluggy": Version("1.6.0")}
    assert "passed" in run_tests(fresh, "plugins")


def test_the_template_under_the_lowest_copier(fresh, tmp_path):
    bounds = lowest("template")
    fresh.install("mscore")
    fresh.install(*HERE, *(f"{name}=={bound}" for name, bound in bounds.items()), index=True)
    assert installed(fresh, bounds) == {name: Version(bound) for name, bound in bounds.items()}
    fresh.mscore("plugins", "new", "environment", "maze", "--author", "Ada Lovelace")
    ours = write_package("environment", "maze", tmp_path / "ours", "Ada Lovelace").folder
    assert contents(fresh.work / "mscore-plugin-maze") == contents(ours)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
