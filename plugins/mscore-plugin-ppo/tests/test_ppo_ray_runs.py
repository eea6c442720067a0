"""Runs of ``mscore run`` on Ray: the files, the signals and the messages are those of a run in one process."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

import mscore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CARTPOLE = {
    "name": "cartpole",
    "policy": {"use": "mlp", "hiddim": 16},
    "environment": {"use": "short"},
    "trainer": {
        "use": "ppo",
        "max_steps": 768,
        "num_envs": 4,
        "fragment_length": 32,
        "batch_size_per_gpu": 2,
        "batches_per_iteration": 2,
        "epochs_per_iteration": 2,
        "checkpoint_every_n_iterations": 1,
    },
    "evaluation": {"episodes": 3, "every_n_steps": 500},
    "optimizer": {"learning_rate": 1e-3},
    "log_freq": 1,
}
PLUGIN = """
import gymnasium
from mscore import hookimpl

@hookimpl
def mscore_environments():
    return {"short": "my_env:short", "broken": "my_env:broken"}

def short(render_mode=None):
    return gymnasium.make("CartPole-v1", render_mode=render_mode, max_episode_steps=30)

class Broken(gymnasium.Wrapper):
    def step(self, action):
        raise RuntimeError("the game crashed")

def broken():
    return Broken(gymnasium.make("CartPole-v1"))
"""
ON_RAY = ("trainer.num_workers=1", "trainer.num_rollout_workers=1")


@pytest.fixture
def mscore_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSCORE_PLUGIN_FILES", "")  # and undo what a run in this process sets
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "my_env.py").write_text(PLUGIN)
    (tmp_path / "config.yaml").write_text(json.dumps(CARTPOLE))

    def start(*arguments):
        arguments = arguments if "--resume" in arguments else ("config.yaml", *arguments)
        return subprocess.Popen(
            [sys.executable, "-m", "mscore", "run", *arguments, "--plugin-file", "plugins/my_env.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    return start


def finished(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    return out, err


def newest(tmp_path):
    return max(tmp_path.glob("runs/cartpole/2*"))


def checkpoint(directory):
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)


def losses(directory):
    rows = csv.DictReader((directory / "metrics.csv").open())
    return {int(row["step"]): row["train/loss"] for row in rows if row["train/loss"]}


def same_weights(first, second):
    return all(torch.equal(tensor, second["state_dict"][name]) for name, tensor in first["state_dict"].items())


def wait_for_checkpoint(process, tmp_path):
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("runs/cartpole/2*/checkpoints/last.ckpt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return newest(tmp_path)


def test_a_run_on_ray_leaves_what_a_run_in_one_process_leaves(mscore_run, tmp_path):
    finished(mscore_run())
    here = newest(tmp_path)
    finished(mscore_run(*ON_RAY))
    there = newest(tmp_path)
    assert there != here
    assert losses(there) == losses(here)
    assert same_weights(checkpoint(there), checkpoint(here))
    assert (there / "evaluations.jsonl").read_text().count("\n") == (here / "evaluations.jsonl").read_text().count("\n")
    assert sorted(path.name for path in there.iterdir()) == sorted(path.name for path in here.iterdir())
    assert json.loads((there / "report.json").read_text())["status"] == "finished"


def test_sigterm_ends_a_run_on_ray_with_everything_saved_and_it_goes_on_in_one_process(mscore_run, tmp_path):
    process = mscore_run(*ON_RAY, "trainer.max_steps=10000000", "evaluation=null")
    directory = wait_for_checkpoint(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, out + err
    assert "mscore run --resume" in err
    assert "Traceback" not in err
    saved = checkpoint(directory)
    end = saved["global_step"] + 256
    mscore.run(
        resume=directory,
        overrides=[f"trainer.max_steps={end}", "trainer.num_workers=0", "trainer.num_rollout_workers=0"],
    )
    assert checkpoint(directory)["global_step"] == end


def test_a_trainer_on_ray_that_is_killed_while_it_saves_goes_on_exactly(mscore_run, tmp_path):
    process = mscore_run("trainer.num_rollout_workers=1", "trainer.max_steps=10000000", "evaluation=null")
    directory = wait_for_checkpoint(process, tmp_path)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    end = checkpoint(directory)["global_step"] + 256
    finished(mscore_run("--resume", str(directory), f"trainer.max_steps={end}"))
    finished(mscore_run(f"trainer.max_steps={end}", "evaluation=null"))
    assert newest(tmp_path) != directory
    assert same_weights(checkpoint(newest(tmp_path)), checkpoint(directory))


def test_a_mistake_on_ray_is_one_line(mscore_run):
    process = mscore_run(*ON_RAY, "environment.use=broken", "evaluation=null")
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1, out + err
    first = err.splitlines()[0]
    assert first.startswith("error: CartPole-v1 raised in step 0 of the episode with seed")
    assert len(err.splitlines()) == 3, err  # where from, and how to go on
    assert "Traceback" not in out + err


def test_an_address_where_nobody_listens_is_refused_within_seconds(mscore_run):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = mscore_run(*ON_RAY, f"trainer.ray_address='{address}'", "evaluation=null")
        out, err = process.communicate(timeout=80)
    assert process.returncode == 1, out + err
    assert f"error: Ray cannot be reached (ray_address: {address})" in err
    assert "ray status" in err
    assert "Traceback" not in out + err
