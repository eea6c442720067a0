"""A complete package by somebody else, built as a wheel, installed beside mscore, and tested there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "thirdparty" / "mscore-plugin-focal"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment's variables with which an interpreter finds the installed wheel."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    commands = [
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels), str(PACKAGE)],
        [*pip, "install", "--no-deps", "--no-index", "--find-links", str(wheels), "--target", str(target),
         "mscore-plugin-focal"],
    ]  # fmt: skip
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MSCORE_")}
    return {**kept, "PYTHONPATH": str(target)}


def test_it_is_listed_with_all_that_it_provides(installed):
    code = (
        "from mscore.plugins import installed_plugins\n"
        "plugin = next(p for p in installed_plugins() if p.name == 'focal')\n"
        "record = plugin.provenance()\n"
        "print(plugin.label, plugin.status, plugin.reason, plugin.heavy, record['editable'], sorted(plugin.components))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=installed, capture_output=True, text=True)
    assert done.stdout.strip() == "mscore-plugin-focal 0.3.0 ok  False False ['callback', 'objective', 'policy']"


def test_its_own_tests_pass_where_it_is_installed(installed, tmp_path):
    """Outside of this repository's folder, without its settings."""
    shutil.copytree(PACKAGE / "tests", tmp_path / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, env=installed, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
