"""Life-cycle hooks: of the used plugins only, in order, and with a note on what they raise."""

import types

import pytest

from mscore import hookimpl
from mscore.plugins import PluginSet

CALLS = []


def make(plugins, name, *, fails=False, finished=True):
    module = types.ModuleType(f"lifecycle_{name}")

    def mscore_run_finished(run, error):
        CALLS.append((name, run, error))
        if fails:
            raise RuntimeError(f"{name} failed")

    def mscore_run_started(run):
        CALLS.append((name, run))

    hook = mscore_run_finished if finished else mscore_run_started
    setattr(module, hook.__name__, hookimpl(hook))
    plugin = plugins.add_module(module, name, f"acme-{name}", "1.0")
    assert plugin.status == "ok", plugin.reason
    return plugin


@pytest.fixture
def plugins():
    CALLS.clear()
    return PluginSet(discover=False)


def test_installed_is_not_active(plugins):
    used, _ = make(plugins, "used"), make(plugins, "installed")
    plugins.call_lifecycle("mscore_run_finished", [used], run="run", error=None)
    assert CALLS == [("used", "run", None)]


def test_hooks_run_in_loading_order_whatever_the_order_of_use(plugins):
    a, b, c = (make(plugins, name) for name in "abc")
    plugins.call_lifecycle("mscore_run_finished", [c, a, b], run="run", error=None)
    assert [name for name, *_ in CALLS] == ["a", "b", "c"]


def test_a_used_plugin_without_the_hook_is_passed_over(plugins):
    started, finished = make(plugins, "started", finished=False), make(plugins, "finished")
    plugins.call_lifecycle("mscore_run_started", [started, finished], run="run")
    assert CALLS == [("started", "run")]


def test_an_error_names_the_plugin_and_does_not_stop_the_others(plugins):
    first, second, third = (
        make(plugins, "first", fails=True),
        make(plugins, "second", fails=True),
        make(plugins, "third"),
    )
    with pytest.raises(RuntimeError, match="first failed") as raised:
        plugins.call_lifecycle("mscore_run_finished", [first, second, third], run="run", error=None)
    assert raised.value.__notes__ == [
        "in hook mscore_run_finished of plugin 'first' (acme-first 1.0)",
        "then in hook mscore_run_finished of plugin 'second' (acme-second 1.0): RuntimeError: second failed",
    ]
    assert [name for name, *_ in CALLS] == ["first", "second", "third"]


def test_the_error_that_ended_the_run_arrives(plugins):
    plugin, error = make(plugins, "a"), ValueError("loss is nan")
    plugins.call_lifecycle("mscore_run_finished", [plugin], run="run", error=error)
    assert CALLS[0][2] is error
