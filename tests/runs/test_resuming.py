import csv
import json
from pathlib import Path

import pytest
import torch

import mscore
from mscore.errors import ConfigError, MscoreError
from mscore.plugins import installed_plugins

CONFIG = {"defaults": ["tiny"], "trainer": {"max_steps": 8}, "log_freq": 1}


def test_a_resumed_run_goes_on_to_its_new_end(tiny):
    directory = mscore.run(CONFIG).directory
    result = mscore.run(resume=directory, overrides=["trainer.max_steps=12"])
    assert (result.directory, result.report.step) == (directory, 12)
    steps = [int(row["step"]) for row in csv.DictReader((directory / "metrics.csv").open()) if row["train/loss"]]
    assert steps == list(range(1, 13))
    record = json.loads((directory / "run.json").read_text())
    assert [session["status"] for session in record["sessions"]] == ["finished", "finished"]
    assert "max_steps: 12" in (directory / "config.yaml").read_text()


def test_an_interrupted_run_goes_on_where_it_was(tiny):
    with pytest.raises(MscoreError):
        mscore.run({**CONFIG, "callbacks": {"saboteur": {"step": 5, "how": "terminate"}}})
    directory = (tiny / "runs" / "run" / "latest").resolve()
    at_five = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert at_five["global_step"] == 5
    assert mscore.run(resume=directory).report.step == 8
    steps = [int(row["step"]) for row in csv.DictReader((directory / "metrics.csv").open()) if row["train/loss"]]
    assert steps == list(range(1, 9))


def test_a_run_that_saved_nothing_starts_again_in_its_directory(tiny):
    with pytest.raises(ZeroDivisionError):
        mscore.run({**CONFIG, "callbacks": {"saboteur": {"step": 2}}})
    directory = (tiny / "runs" / "run" / "latest").resolve()
    assert mscore.run(resume=directory).report.step == 8


@pytest.mark.parametrize("override", ["policy.hiddim=16", "trainer.gradient_clip_val=1", "seed=1", "data.windows=3"])
def test_what_a_resumed_run_keeps_cannot_be_overridden(tiny, override):
    directory = mscore.run(CONFIG).directory
    before = (directory / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=f"{override.partition('=')[0]}: a run that is resumed keeps this.*max_steps"):
        mscore.run(resume=directory, overrides=[override])
    assert (directory / "config.yaml").read_text() == before


def test_loggers_may_change_when_a_run_is_resumed(tiny):
    directory = mscore.run(CONFIG).directory
    mscore.run(resume=directory, overrides=["trainer.max_steps=9", "loggers.tensorboard={}"])
    assert list((directory / "tensorboard").iterdir())


def test_a_plugin_with_another_version_is_warned_of(tiny):
    directory = mscore.run(CONFIG).directory
    record = json.loads((directory / "run.json").read_text())
    record["plugins"][0]["version"] = "0.0.9"
    record["versions"]["torch"] = "1.0"
    (directory / "run.json").write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="going on with other code") as warned:
        mscore.run(resume=directory)
    lines = [str(one.message) for one in warned]
    assert any(line.endswith("plugin 'tiny' was 0.0.9, is 0.1.0") for line in lines)
    assert any("torch was 1.0" in line for line in lines)


def test_a_missing_plugin_stops_with_the_line_that_installs_it(tiny, monkeypatch):
    directory = mscore.run(CONFIG).directory
    record = json.loads((directory / "run.json").read_text())
    record["plugins"].append({**record["plugins"][0], "plugin": "gone", "distribution": "mscore-plugin-gone"})
    (directory / "run.json").write_text(json.dumps(record))
    with pytest.raises(MscoreError, match=r"plugin 'gone' .* not installed: pip install mscore-plugin-gone==0.1.0"):
        mscore.run(resume=directory)


def test_a_blocked_plugin_stops_with_its_reason(tiny, monkeypatch):
    directory = mscore.run(CONFIG).directory
    monkeypatch.setenv("MSCORE_DISABLE_PLUGINS", "tiny")
    installed_plugins.cache_clear()
    with pytest.raises(MscoreError, match=r"plugin 'tiny' .* is blocked"):
        mscore.run(resume=directory)


def test_another_working_folder_is_warned_of(tiny, monkeypatch):
    directory = mscore.run(CONFIG).directory
    (tiny / "elsewhere").mkdir()
    monkeypatch.chdir(tiny / "elsewhere")
    with pytest.warns(UserWarning, match=f"the run began in {tiny}"):
        mscore.run(resume=Path("..") / directory.relative_to(tiny))
