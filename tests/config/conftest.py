"""A plugin set with light components of every kind, and files to read."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mscore.errors import ConfigError
from mscore.plugins import PluginSet

FOLDER = Path(__file__).parent


def _module(name):
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def parts():
    """The module that holds the components' classes."""
    return _module("config_parts")


@pytest.fixture
def plugins(parts):
    plugins = PluginSet(discover=False)
    plugin = plugins.add_module(_module("config_plugin"), "parts", "mscore-plugin-parts", "1.2")
    assert plugin.status == "ok", plugin.reason
    return plugins


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder as the working directory; calling it writes a file."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def problems(plugins, here):
    """Problems of a config's text, both passes, each with its file and line."""
    from mscore.config import check_parameters, load_config

    def collect(text, *overrides, parameters=True):
        here("config.yaml", text)
        try:
            config = load_config("config.yaml", overrides, plugins=plugins)
            if parameters:
                check_parameters(config, plugins)
        except ConfigError as error:
            return error.problems
        return []

    return collect
