"""An exception in a run says whose code raised it, also where Lightning called that code."""

import pytest

import mscore
from mscore.testing import TinyDataModule
from mscore.testing.trainer_checks import _parts


def test_a_callback_in_a_run_is_named(tmp_path, monkeypatch):
    from mscore_plugin_speed_monitor import SpeedMonitorCallback, callback

    namespace = vars(callback)
    exec("def _broken(self, *arguments):\n    raise ValueError('no clock')", namespace)
    monkeypatch.setattr(SpeedMonitorCallback, "on_train_batch_end", namespace.pop("_broken"))
    monkeypatch.chdir(tmp_path)
    from mscore.plugins import installed_plugins

    installed = installed_plugins()
    assert installed.add_module(_parts(), "parts").status == "ok"
    try:
        with pytest.raises(ValueError, match="no clock") as caught:
            mscore.run(
                {
                    "policy": "check-policy",
                    "data": "check-data",
                    "objectives": {"check-objective": {}},
                    "callbacks": {"speed-monitor": {}},
                    "trainer": {"max_steps": 2, "accelerator": "cpu", "enable_progress_bar": False},
                }
            )
    finally:
        installed_plugins.cache_clear()
    notes = " ".join(caught.value.__notes__)
    assert "in callback 'speed-monitor' of plugin 'speed-monitor' (mscore-plugin-speed-monitor 0.1.0): _broken" in notes
    assert TinyDataModule.__name__ not in notes
