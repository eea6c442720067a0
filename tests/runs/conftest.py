from pathlib import Path

import pytest

from mscore.plugins import installed_plugins

SITE = Path(__file__).parent / "tiny_site"


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """An empty working folder, and the tiny plugin as the only one installed beside the core."""
    monkeypatch.syspath_prepend(str(SITE))
    monkeypatch.setenv("MSCORE_PLUGINS", "tiny")
    monkeypatch.setenv("MSCORE_RUN_DIR", "")  # what a run sets is undone after the test
    monkeypatch.setenv("MSCORE_PLUGIN_FILES", "")
    monkeypatch.setenv("TINY_NOTES", str(tmp_path / "notes.txt"))
    monkeypatch.chdir(tmp_path)
    installed_plugins.cache_clear()
    yield tmp_path
    installed_plugins.cache_clear()
