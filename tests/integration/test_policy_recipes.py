"""The recipes of ROCKET-1 and GROOT on a small real dataset: they start, learn, save, resume and export."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mscore_plugin_groot import GrootPolicy
from mscore_plugin_rocket import RocketPolicy

import mscore

PLUGINS = Path(__file__).parents[2] / "plugins"
DATASET = PLUGINS / "mscore-plugin-minestudio" / "tests" / "golden" / "minestudio" / "dataset"
SMALL = [
    *("policy.backbone=test_resnet.r160_in1k", "policy.pretrained=false", "policy.hiddim=32"),
    *(f"data.dataset_dirs=[{DATASET}]", "data.win_len=8", "data.frame_width=64", "data.frame_height=64"),
    *("data.batch_size=4", "data.num_workers=0", "data.prefetch_factor=null"),
    *("trainer.devices=1", "trainer.strategy=auto", "trainer.accelerator=cpu", "log_freq=5"),
    *("optimizer.learning_rate=3e-3", "scheduler.warmup_steps=1"),
    *("callbacks.weights.every_n_train_steps=10", "callbacks.checkpoints.every_n_train_steps=11"),
    *("callbacks.ema.decay=0.9", "callbacks.ema.every_n_steps=1"),
]
POLICIES = {
    "rocket-pretrain": (RocketPolicy, ["policy.num_heads=4", "policy.num_layers=2", "policy.mem_len=8"]),
    "groot-pretrain": (GrootPolicy, ["policy.decoder_kwargs={num_layers: 2, timesteps: 8, mem_len: 8}"]),
}
recipes = pytest.mark.parametrize("recipe", POLICIES)


def command(directory, *arguments, expected=0):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    line = [sys.executable, "-m", "mscore", *arguments]
    done = subprocess.run(line, cwd=directory, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stderr


def losses(directory, recipe):
    with open(directory / "runs" / recipe / "latest" / "metrics.csv", newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@recipes
def test_it_learns_saves_resumes_and_exports(tmp_path, recipe):
    policy_class, sizes = POLICIES[recipe]
    command(tmp_path, "run", recipe, *SMALL, *sizes, "trainer.max_steps=40")
    found = losses(tmp_path, recipe)
    assert min(found[-3:]) < 0.9 * found[0]
    latest = tmp_path / "runs" / recipe / "latest"
    command(tmp_path, "run", "--resume", str(latest), "trainer.max_steps=44")
    assert (latest / "checkpoints" / "weight-epoch=0-step=10-EMA.ckpt").exists()
    command(tmp_path, "export", str(latest), "--ema", "--to", "exported")
    exported = policy_class.from_pretrained(tmp_path / "exported")
    ours = mscore.load_policy(tmp_path / "exported")
    assert all(torch.equal(value, ours.state_dict()[name]) for name, value in exported.state_dict().items())


@recipes
def test_frozen_features_are_kept_for_the_second_epoch(tmp_path, recipe):
    _, sizes = POLICIES[recipe]
    frozen = ["policy.freeze_backbone=true", "policy.feature_cache=features", "trainer.max_steps=4"]
    command(tmp_path, "run", recipe, *SMALL, *sizes, *frozen)
    kept = sorted(tmp_path.rglob("features/**/*.safetensors"))
    assert len(kept) >= 4
    written = [file.stat().st_mtime_ns for file in kept]
    command(tmp_path, "run", recipe, *SMALL, *sizes, *frozen)
    assert [file.stat().st_mtime_ns for file in kept] == written
    assert sorted(tmp_path.rglob("features/**/*.safetensors")) == kept


@recipes
def test_weights_that_cannot_be_had_stop_the_run(tmp_path, recipe):
    # Offline there is no waiting for a network that is not there.
    _, sizes = POLICIES[recipe]
    said = command(tmp_path, "run", recipe, *SMALL, *sizes, "policy.pretrained=true", expected=2)
    assert "pretrained: false" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.timeout(600)
@recipes
def test_a_run_that_is_killed_goes_on(tmp_path, killed, recipe):
    policy_class, sizes = POLICIES[recipe]
    directory = killed(recipe, *SMALL, *sizes, "trainer.max_steps=4000")
    command(tmp_path, "run", "--resume", str(directory), "trainer.max_steps=30")
    command(tmp_path, "export", str(directory), "--ema", "--to", "exported")
    assert json.loads((tmp_path / "exported" / "mscore.json").read_text())["step"] == 30
    policy_class.from_pretrained(tmp_path / "exported")
