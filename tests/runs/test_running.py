import csv
import json
import os
from pathlib import Path

import pytest
import torch
import yaml

import mscore
from mscore.config import load_config
from mscore.errors import ConfigError, Interrupted, MscoreError

CONFIG = {"defaults": ["tiny"], "trainer": {"max_steps": 8}}


def notes():
    return Path(os.environ["TINY_NOTES"]).read_text().splitlines()


def test_a_run_leaves_everything_in_its_directory(tiny):
    result = mscore.run("tiny", ["trainer.max_steps=8", "name=small"])
    directory = result.directory
    assert directory.parent == tiny / "runs" / "small"
    assert load_config(directory / "config.yaml").resolved["trainer"]["max_steps"] == 8
    assert (directory / "checkpoints" / "last.ckpt").exists()
    rows = list(csv.DictReader((directory / "metrics.csv").open()))
    assert {"step", "train/loss", "val/loss"} <= set(rows[0])
    record = json.loads((directory / "run.json").read_text())
    assert (record["status"], record["error"]) == ("finished", None)
    assert record["versions"]["torch"] == torch.__version__
    (plugin,) = record["plugins"]
    assert (plugin["plugin"], plugin["version"]) == ("tiny", "0.1.0")
    assert plugin["used_for"] == ["policy", "data", "objectives.imitate"]
    assert result.report.step == 8
    assert "train/loss" in (directory / "report.md").read_text()
    assert json.loads((directory / "report.json").read_text())["status"] == "finished"


def test_checkpoints_say_what_they_are_made_of(tiny):
    directory = mscore.run(CONFIG).directory
    checkpoint = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    kept = checkpoint["hyper_parameters"]
    assert kept["policy"] == {"use": "tiny"}
    assert kept["mscore"]["action_space"] == {"type": "Discrete", "n": 2, "start": 0}
    assert [plugin["plugin"] for plugin in kept["mscore"]["plugins"]] == ["tiny"]
    assert kept["mscore"]["versions"]["mscore"] == mscore.__version__


def test_a_run_is_repeatable(tiny):
    directories = [mscore.run(CONFIG).directory for _ in range(2)]
    weights = [torch.load(one / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for one in directories]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_life_cycle_hooks_of_used_plugins_are_called_in_order(tiny):
    directory = mscore.run(CONFIG).directory
    assert notes() == ["configured run", f"started {directory.name}", "finished NoneType"]


def test_a_failing_run_keeps_what_was_saved_and_says_how_to_go_on(tiny):
    trainer = {**CONFIG["trainer"], "checkpoint_every_n_steps": 2}
    config = {**CONFIG, "trainer": trainer, "callbacks": {"saboteur": {"step": 5}}}
    with pytest.raises(ZeroDivisionError) as caught:
        mscore.run(config)
    directory = (tiny / "runs" / "run" / "latest").resolve()
    assert caught.value.__notes__[-1] == f"to go on: mscore run --resume runs/run/{directory.name}"
    record = json.loads((directory / "run.json").read_text())
    assert (record["status"], record["error"]) == ("failed", "ZeroDivisionError: sabotage")
    assert torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert notes()[-1] == "finished ZeroDivisionError"


def test_an_interrupted_run_is_saved_at_the_step_that_it_had_reached(tiny):
    with pytest.raises(Interrupted, match="to go on: mscore run --resume runs/run/"):
        mscore.run({**CONFIG, "callbacks": {"saboteur": {"step": 5, "how": "terminate"}}})
    directory = (tiny / "runs" / "run" / "latest").resolve()
    assert json.loads((directory / "run.json").read_text())["status"] == "interrupted"
    assert torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 5


def test_a_finish_hook_that_fails_does_not_hide_why_the_run_failed(tiny, monkeypatch):
    monkeypatch.setenv("TINY_FINISH_FAILS", "1")
    with (
        pytest.warns(UserWarning, match="no more paper.*mscore_run_finished of plugin 'tiny'"),
        pytest.raises(ZeroDivisionError),
    ):
        mscore.run({**CONFIG, "callbacks": {"saboteur": {"step": 1}}})
    with pytest.raises(ValueError, match="no more paper"):
        mscore.run(CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": {"use": "tiny", "hidim": 8}}, "policy.hidim.*hiddim"),
        ({"init_from": "runs/nothing"}, "init_from: there is no run, checkpoint or exported policy"),
        ({"policy": "tinny"}, "tinny.*Did you mean 'tiny'"),
    ],
)
def test_a_mistake_is_found_before_anything_is_built_or_written(tiny, changes, message, monkeypatch):
    config = {**CONFIG, "data": {"use": "tiny", "marker": "prepared"}, **changes}
    if "init_from" in changes:
        monkeypatch.setattr("mscore.runs.assembly._knows_weights", lambda policy: False)
    with pytest.raises(ConfigError, match=message):
        mscore.run(config)
    assert list(tiny.iterdir()) == []


def test_a_logger_without_its_package_is_an_error_that_names_the_extra(tiny, monkeypatch):
    monkeypatch.setattr("mscore.runs.assembly.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'loggers.wandb: the package .* pip install "mscore\[wandb\]"'):
        mscore.run({**CONFIG, "loggers": {"wandb": {"project": "x"}}})
    assert list(tiny.iterdir()) == []


def test_relative_outputs_of_callbacks_and_loggers_lie_in_the_run(tiny):
    callbacks = {
        "model-checkpoint": {"every_n_train_steps": 4},
        "kept": {"use": "model-checkpoint", "dirpath": "kept", "every_n_train_steps": 8},
    }
    directory = mscore.run({**CONFIG, "callbacks": callbacks, "loggers": {"tensorboard": {}}}).directory
    assert list((directory / "kept").glob("*.ckpt"))
    assert len(list((directory / "checkpoints").glob("*.ckpt"))) == 2
    assert list((directory / "tensorboard").glob("events*"))
    assert sorted(path.name for path in tiny.iterdir()) == ["notes.txt", "runs"]


def test_data_and_environment_must_agree(tiny):
    with pytest.raises(
        MscoreError, match=r"action space: Discrete\(n=3, .*in the data, Discrete\(n=2.*in the environment"
    ):
        mscore.run({**CONFIG, "data": {"use": "tiny", "actions": 3}})
    directory = (tiny / "runs" / "run" / "latest").resolve()
    assert yaml.safe_load((directory / "run.json").read_text())["status"] == "failed"


def test_spaces_come_from_the_environment_when_the_data_has_none(tiny, monkeypatch):
    monkeypatch.setattr("mscore_plugin_tiny.data.TinyData.prepare_data", lambda self: None)
    assert mscore.run(CONFIG).report.status == "finished"


def test_a_policy_that_needs_spaces_which_nobody_knows_is_a_config_error(tiny, monkeypatch):
    monkeypatch.setattr("mscore_plugin_tiny.data.TinyData.prepare_data", lambda self: None)
    with pytest.raises(ConfigError, match=r"policy.observation_space: is needed by policy 'tiny'"):
        mscore.run({**CONFIG, "environment": None})


def test_run_takes_a_config_or_a_run_to_resume(tiny):
    with pytest.raises(TypeError, match="either a config, or resume"):
        mscore.run()
