"""Plugins of a test's own, in place of those that happen to be installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from unittest.mock import patch

from mscore import plugins as discovery
from mscore.errors import PluginError
from mscore.plugins import PluginSet


@contextmanager
def isolated_plugins(*modules: ModuleType, **named: ModuleType) -> Iterator[PluginSet]:
    """Have the core's components and the given modules' as the process's plugins, and nothing installed.

    ::

        with isolated_plugins(focal=mscore_plugin_focal) as plugins:
            mscore.run(config)

    Args:
        modules: plugin modules; each is called as its own name ends, behind ``plugin_``.
        named: plugin modules by the name that the plugin shall have.

    Yields:
        The plugins, which are those of the process inside the context.

    Raises:
        PluginError: a module cannot be used as a plugin; the message says why.
    """
    plugins = PluginSet(discover=False)
    given = {module.__name__.rpartition(".")[2].rpartition("plugin_")[2]: module for module in modules}
    for name, module in {**given, **named}.items():
        plugin = plugins.add_module(module, name, f"mscore-plugin-{name}".replace("_", "-"), "0")
        if plugin.status != "ok":
            raise PluginError(f"plugin {name!r} cannot be used: {plugin.reason}")
    # For as long as it lasts, discovery finds this set, also if somebody has it look again.
    with patch.object(discovery, "PluginSet", return_value=plugins):
        discovery.installed_plugins.cache_clear()
        try:
            yield plugins
        finally:
            discovery.installed_plugins.cache_clear()
