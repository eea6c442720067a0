"""What is on its way out still works, and its warning names the line of the plugin that uses it."""

import os
import subprocess
import sys
import warnings
from importlib import import_module

import pytest

import mscore
from mscore import hookspecs
from mscore.deprecation import MscoreRemovedIn1Warning
from mscore.hookspecs import hookspec
from mscore.plugins import PluginSet

OLD_HOOK = "from mscore import hookimpl\n\n@hookimpl\ndef mscore_losses():\n    return {}\n"
OLD_ARGUMENT = "from mscore import hookimpl\n\n@hookimpl\ndef mscore_run_started(run, folder):\n    pass\n"
NEITHER = "from mscore import hookimpl\n\n@hookimpl\ndef mscore_run_started(run):\n    pass\n"


@hookspec(warn_on_impl=MscoreRemovedIn1Warning("mscore_losses is deprecated; use mscore_objectives"))
def mscore_losses():
    """A hook of an earlier release, as the core would keep it."""


@hookspec(warn_on_impl_args={"folder": MscoreRemovedIn1Warning("folder is deprecated; use run.directory")})
def mscore_run_started(run, folder):
    """A hook with an argument of an earlier release."""


@pytest.fixture
def plugins(monkeypatch):
    """The plugins of an mscore that has deprecated a hook and an argument."""
    for hook in (mscore_losses, mscore_run_started):
        monkeypatch.setattr(hookspecs, hook.__name__, hook, raising=False)
    return PluginSet(discover=False)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (OLD_HOOK, "mscore_losses is deprecated; use mscore_objectives"),
        (OLD_ARGUMENT, "folder is deprecated; use run.directory"),
        (NEITHER, None),
    ],
    ids=["hook", "argument", "neither"],
)
def test_a_plugin_with_a_deprecated_hook_loads_and_is_told_where(
    plugins, code, message, tmp_path, monkeypatch, recwarn
):
    name = f"acme_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = plugins.add_module(import_module(name), name)
    assert plugin.status == "ok", plugin.reason
    found = [(one.category, str(one.message), one.filename, one.lineno) for one in recwarn]
    expected = [(MscoreRemovedIn1Warning, message, str(tmp_path / f"{name}.py"), 3)]
    assert found == (expected if message else [])


def test_where_the_warning_is_an_error_nothing_of_the_plugin_stays(plugins, tmp_path, monkeypatch):
    """The hook that is right comes first in the module; pluggy before 1.7 would go on calling it."""
    code = OLD_HOOK + "\n@hookimpl\ndef mscore_callbacks():\n    return {}\n"
    (tmp_path / "acme_strict.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error", mscore.MscoreDeprecationWarning)
        plugin = plugins.add_module(import_module("acme_strict"), "strict")
    assert plugin.status == "broken"
    assert plugin.reason == "MscoreRemovedIn1Warning: mscore_losses is deprecated; use mscore_objectives"
    assert not plugins.manager.is_registered(plugin.module)
    assert plugin.module not in [one.plugin for one in plugins.manager.hook.mscore_callbacks.get_hookimpls()]


@pytest.mark.parametrize("use", ["from mscore import Objective", "import mscore; Objective = mscore.Objective"])
def test_a_deprecated_name_means_the_one_that_replaces_it(use, tmp_path):
    """In a process of its own, with Python's own filters: a user sees it without asking for it."""
    script = tmp_path / "script.py"
    script.write_text(f"# the plugin's line is the second\n{use}\nprint(Objective.__name__)\n")
    start = (
        "import mscore, runpy; mscore._DEPRECATED['Objective'] = 'mscore.MscoreError'; "
        f"runpy.run_path({str(script)!r}, run_name='acme')"
    )
    done = subprocess.run([sys.executable, "-c", start], env=os.environ, capture_output=True, text=True)
    assert done.stdout == "MscoreError\n", done.stderr
    first, *_ = done.stderr.splitlines()
    assert first == f"{script}:2: MscoreRemovedIn1Warning: mscore.Objective is deprecated; use mscore.MscoreError"
    assert done.stderr.count("MscoreRemovedIn1Warning:") == 1


def test_the_warnings_are_shown_by_default_and_can_be_told_apart():
    assert issubclass(mscore.MscoreRemovedIn1Warning, mscore.MscoreDeprecationWarning)
    assert issubclass(mscore.MscoreDeprecationWarning, FutureWarning)
    assert not issubclass(mscore.MscoreDeprecationWarning, UserWarning)  # the command line shows those without a place


def test_nothing_that_is_deprecated_is_listed_as_public():
    assert set(mscore._DEPRECATED) & set(mscore.__all__) == set()
    assert all(new.removeprefix("mscore.") in mscore.__all__ for new in mscore._DEPRECATED.values())


def test_nothing_of_the_next_major_version_is_left_to_remove():
    """`MscoreRemovedIn1Warning` may be used in 0.x only."""
    if int(mscore.__version__.partition(".")[0]) >= 1:
        assert mscore._DEPRECATED == {}
