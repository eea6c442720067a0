"""The trainer ``ppo`` in runs: its files, going on exactly, stopping when asked, and its config's errors."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from mscore_plugin_ppo.adapter import PPO

import mscore
from mscore import ConfigError, MscoreError

CARTPOLE = {
    "name": "cartpole",
    "policy": {"use": "mlp", "hiddim": 16},
    "environment": {"use": "gymnasium", "id": "CartPole-v1"},
    "trainer": {
        "use": "ppo",
        "max_steps": 1024,
        "num_envs": 4,
        "fragment_length": 32,
        "batch_size_per_gpu": 2,
        "batches_per_iteration": 2,
        "epochs_per_iteration": 2,
    },
    "optimizer": {"learning_rate": 1e-3},
    "scheduler": {"warmup_steps": 10},
    "log_freq": 1,
}


def config(**trainer):
    return {**CARTPOLE, "trainer": {**CARTPOLE["trainer"], **trainer}}


def recurrent(**trainer):
    return {**config(**trainer), "policy": {"use": "recurrent", "hiddim": 16}}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def checkpoint(directory):
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)


def losses(directory):
    rows = csv.DictReader((directory / "metrics.csv").open())
    return {int(row["step"]): row["train/loss"] for row in rows if row["train/loss"]}


def test_a_run_leaves_what_offline_runs_leave():
    directory = mscore.run({**config(), "evaluation": {"episodes": 3, "every_n_steps": 500}}).directory
    saved = checkpoint(directory)
    assert saved["global_step"] == 1024
    assert all(name.startswith("mine_policy.") for name in saved["state_dict"])
    assert sorted(losses(directory)) == list(range(128, 1025, 128))
    evaluations = [json.loads(line)["step"] for line in (directory / "evaluations.jsonl").read_text().splitlines()]
    assert evaluations == [0, 512, 1024]
    policy = mscore.load_policy(directory)
    assert policy.pi_head.space.n == 2
    report = json.loads((directory / "report.json").read_text())
    assert report["status"] == "finished"
    assert "rollout/return" in {metric["name"] for metric in report["metrics"]}


@pytest.mark.parametrize("make", [config, recurrent])
def test_a_resumed_run_is_equal_to_the_last_bit(make):
    held = {"kl_divergence_coef_rho": 0.2, "coef_rho_decay": 0.9, "use_normalized_vf": True}
    whole = mscore.run(make(max_steps=1280, **held)).directory
    half = mscore.run(make(max_steps=640, **held)).directory
    mscore.run(resume=half, overrides=["trainer.max_steps=1280"])
    expected, found = checkpoint(whole), checkpoint(half)
    assert found["global_step"] == expected["global_step"] == 1280
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], tensor), name
    assert losses(half) == losses(whole)
    assert found["online"]["version"] == expected["online"]["version"]
    assert found["online"]["order"] == expected["online"]["order"]
    assert found["online"]["recent"] == expected["online"]["recent"]


def test_reference_kl_is_held_to_the_run_that_training_begins_from_and_goes_on_exactly():
    pytest.importorskip("mscore_plugin_kl")
    first = mscore.run(recurrent(max_steps=256)).directory
    held = {"init_from": str(first), "objectives": {"reference-kl": {"source": str(first), "weight": 0.5}}}
    whole = mscore.run({**recurrent(max_steps=768), **held}).directory
    half = mscore.run({**recurrent(max_steps=384), **held}).directory
    mscore.run(resume=half, overrides=["trainer.max_steps=768"])
    rows = list(csv.DictReader((whole / "metrics.csv").open()))
    divergences = [float(row["train/reference-kl/kl_div"]) for row in rows]
    assert divergences[0] < 1e-4
    assert divergences[-1] > divergences[0]
    for name, tensor in checkpoint(whole)["state_dict"].items():
        assert torch.equal(checkpoint(half)["state_dict"][name], tensor), name


def started(tmp_path, **trainer):
    (tmp_path / "config.yaml").write_text(json.dumps(config(max_steps=10_000_000, **trainer)))
    process = subprocess.Popen(
        [sys.executable, "-m", "mscore", "run", "config.yaml"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("runs/cartpole/2*/checkpoints/last.ckpt")):
        assert process.poll() is None, process.stdout.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, next(tmp_path.glob("runs/cartpole/2*"))


def test_sigterm_ends_a_run_after_its_iteration_with_everything_saved(tmp_path):
    process, directory = started(tmp_path, checkpoint_every_n_iterations=1)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0].decode()
    assert process.returncode not in (0, -signal.SIGTERM), output
    assert "mscore run --resume" in output
    saved = checkpoint(directory)
    assert json.loads((directory / "run.json").read_text())["status"] == "interrupted"
    mscore.run(resume=directory, overrides=[f"trainer.max_steps={saved['global_step'] + 256}"])
    assert checkpoint(directory)["global_step"] == saved["global_step"] + 256


def test_a_run_that_is_killed_while_it_saves_goes_on_from_a_checkpoint_that_is_whole(tmp_path):
    process, directory = started(tmp_path, checkpoint_every_n_iterations=1)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    saved = checkpoint(directory)
    end = saved["global_step"] + 256
    mscore.run(resume=directory, overrides=[f"trainer.max_steps={end}"])
    fresh = mscore.run(config(max_steps=end)).directory
    for name, tensor in checkpoint(fresh)["state_dict"].items():
        assert torch.equal(checkpoint(directory)["state_dict"][name], tensor), name


def test_sections_and_parameters_that_mean_nothing_here_are_refused():
    with pytest.raises(ConfigError, match="trainer 'ppo' has no use for this section"):
        mscore.run({**config(), "callbacks": {"model-checkpoint": {}}})
    with pytest.raises(ConfigError, match=r"Did you mean 'trainer\.ppo_clip'"):
        mscore.run(config(ppo_clop=0.1))
    with pytest.raises(MscoreError, match="needs an `environment:` section"):
        PPO(max_steps=1).fit(mscore.Run(config=None, directory=None, policy=None))


def test_fragments_that_do_not_fill_a_round_are_refused():
    with pytest.raises(MscoreError, match="4 at a time"):
        mscore.run(config(batch_size_per_gpu=3))
