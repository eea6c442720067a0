import os
import subprocess
import sys
from pathlib import Path

import pytest

from mscore.plugins import installed_plugins

TINY_SITE = Path(__file__).parents[1] / "runs" / "tiny_site"


@pytest.fixture
def plugin(tmp_path):
    """Lay down a plugin as pip would leave it: a package, and the metadata that names it."""

    def make(name, source, version="0.1.0", **modules):
        package = tmp_path / "site" / f"mscore_plugin_{name}"
        package.mkdir(parents=True)
        for module, text in {"__init__": source, **modules}.items():
            (package / f"{module}.py").write_text(text)
        info = tmp_path / "site" / f"mscore_plugin_{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mscore-plugin-{name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[mscore]\n{name} = mscore_plugin_{name}\n")

    return make


@pytest.fixture
def python(tmp_path):
    """Run Python as a process of its own in an empty folder, with the tiny plugin and those of ``plugin``."""
    work = tmp_path / "work"
    work.mkdir()

    def run(*arguments, **variables):
        path = os.pathsep.join([str(tmp_path / "site"), str(TINY_SITE)])
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=work,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def mscore(python):
    """Run ``mscore …`` as a process of its own, as ``python`` does."""
    return lambda *arguments, **variables: python("-m", "mscore", *arguments, **variables)


@pytest.fixture
def cli(monkeypatch, tmp_path, capsys):
    """Run ``mscore …`` in this process, with the tiny plugin as the only one, in an empty folder.

    Returns a function from arguments to (exit code, standard output, standard error).
    """
    from mscore.cli.program import run_program

    monkeypatch.syspath_prepend(str(TINY_SITE))
    monkeypatch.setenv("MSCORE_PLUGINS", "tiny")
    for variable in ("MSCORE_RUN_DIR", "MSCORE_DISABLE_PLUGINS", "MSCORE_PLUGIN_FILES", "MSCORE_TRACEBACK"):
        monkeypatch.setenv(variable, "")  # what a command sets is undone after the test
    monkeypatch.chdir(tmp_path)
    installed_plugins.cache_clear()

    def run(*arguments):
        code = run_program([str(argument) for argument in arguments])
        output = capsys.readouterr()
        return code, output.out, output.err

    yield run
    installed_plugins.cache_clear()
