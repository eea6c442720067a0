"""Installed distributions made for a test, and fresh interpreters that see them."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

LIST = """
import json
from mscore.plugins import installed_plugins
fields = "name distribution version status reason heavy components".split()
print(json.dumps([{field: getattr(plugin, field) for field in fields} for plugin in installed_plugins()]))
"""


class Site:
    """A folder of installed distributions, ahead of the environment's own on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, distribution, code, *, version="0.1.0", entry=None, target=None, entry_points=None, **metadata):
        """Install a distribution with one module, and an entry point that names it.

        ``metadata`` are further files of its dist-info folder, by name without dots (``direct_url_json``).
        """
        module = distribution.replace("-", "_")
        entry = entry or distribution.removeprefix("mscore-plugin-")
        (self.folder / f"{module}.py").write_text(textwrap.dedent(code))
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        listed = entry_points if entry_points is not None else f"[mscore]\n{entry} = {target or module}\n"
        (info / "entry_points.txt").write_text(listed)
        for name, text in metadata.items():
            (info / name.replace("_json", ".json")).write_text(text)
        return module

    def run(self, code, **environment):
        """Run code in a fresh interpreter."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MSCORE_")}
        environment = {**kept, "PYTHONPATH": str(self.folder), **environment}
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=120
        )

    def output(self, code, **environment):
        """What code printed in a fresh interpreter, as JSON."""
        done = self.run(code, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def plugins(self, **environment):
        """What became of every plugin, by name; with two of one name, the last in loading order."""
        return {plugin["name"]: plugin for plugin in self.output(LIST, **environment)}


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory):
    """One site for the tests of a module that only read it."""
    return Site(tmp_path_factory.mktemp("site"))
